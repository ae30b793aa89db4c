"""The `spearlet` command's own arguments; the daemon itself is tested as a process."""

from __future__ import annotations

import pytest

from spear.cli import exits, spearlet
from spear.cli.arguments import parse
from spear.config import SETTINGS, UNSERVED


def said(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = spearlet.main(words)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_every_flag_is_a_setting() -> None:
    keys = {setting.key for setting in SETTINGS} | set(UNSERVED)
    assert {key for _, _, key in spearlet.FLAGS} <= keys


def test_flags_are_stronger_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEARLET_NODE_NAME", "env")
    monkeypatch.setenv("SPEARLET_LOG_LEVEL", "warn")
    words = ["--node-name", "flag", "--storage-path=/data", "--auth-loopback", "open"]
    config = spearlet.config_of(parse(words, spearlet.OPTIONS))
    assert (config.node_name, config.log_level, config.auth_loopback) == ("flag", "warn", "open")
    assert config.socket_path == "/data/spearlet.sock"
    assert config.sources["storage.data_dir"] == "flag --storage-path"


def test_help_names_every_option(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capfd, "--help")
    assert code == exits.OK
    assert all(option.flag in out for option in spearlet.OPTIONS)
    assert max(map(len, out.splitlines())) < 100


def test_the_version_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capfd, "--version")
    assert (code, out.startswith("spearlet ")) == (exits.OK, True)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--grcp-addr", "x"], exits.WRONG_USE, "did you mean --grpc-addr?"),
        (["serve"], exits.WRONG_USE, "takes options only, not 'serve'"),
        (["--grpc-addr", "here"], exits.WRONG_USE, "--grpc-addr: expected HOST:PORT"),
        (["--http-addr", "127.0.0.1:1"], exits.WRONG_USE, "the HTTP surface comes later"),
        (["--advertise", "host"], exits.WRONG_USE, "runs alone"),
        (["--config", "/nowhere/at-all"], exits.NOT_FOUND, "no configuration file"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capfd: pytest.CaptureFixture[str], words: list[str], code: int, sentence: str
) -> None:
    found, out, err = said(capfd, *words)
    assert (found, out) == (code, "")
    assert sentence in err
