"""Settings: units, limits, precedence, where each came from, and what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear import config as configuration
from spear.config import (
    SETTINGS,
    UNSERVED,
    Config,
    Refusal,
    format_duration,
    format_size,
    parse_duration_ns,
    parse_size,
    show_size,
    split_address,
)  # fmt: skip
from spear.errors import InvalidArgument, NotFound

S = 10**9


def load(text: str = "", tmp_path: Path | None = None, **environ: str) -> Config:
    path = None
    if tmp_path is not None:
        path = str(tmp_path / "config.toml")
        Path(path).write_text(text)
    return configuration.load(path, environ={"HOME": "/nowhere", **environ})


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", S // 4), ("5s", 5 * S), ("2m", 120 * S), ("1h", 3600 * S), ("1d", 86400 * S),
        ("1.5s", 3 * S // 2), ("7", 7 * S), (7, 7 * S), (0.25, S // 4), (" 5s ", 5 * S),
        ("-5s", -5 * S), ("0", 0),
    ],
)  # fmt: skip
def test_durations_are_read_in_every_unit(text: object, ns: int) -> None:
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "count"), [("64KiB", 65536), ("16MiB", 1 << 24), ("1GiB", 1 << 30), ("7", 7),
                        (7, 7), ("0.5MiB", 1 << 19), ("16mib", 1 << 24)],
)  # fmt: skip
def test_sizes_are_read_in_every_unit(text: object, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "", "s", "5x", "5 parsecs", "1e9", "inf", "nan", "--5", "5..0", "\u0665s", True, None, [],
        "5s5", "0x10", "9" * 400,
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_with_examples(text: object) -> None:
    with pytest.raises(InvalidArgument, match="250ms, 5s, 2m or 1h"):
        parse_duration_ns(text)
    with pytest.raises(InvalidArgument, match="64KiB, 16MiB or 1GiB"):
        parse_size(text)


@given(st.integers(0, 400 * 86400 * S))
def test_a_shown_duration_reads_back(ns: int) -> None:
    assert parse_duration_ns(format_duration(ns)) == ns


@given(st.integers(0, 1 << 45))
def test_a_shown_size_reads_back(count: int) -> None:
    assert parse_size(format_size(count)) == count


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse in (parse_duration_ns, parse_size):
        with contextlib.suppress(InvalidArgument):
            assert isinstance(parse(text), int)


def test_defaults_are_those_of_the_contract() -> None:
    config = load()
    assert config.timeout_ns == 60 * S
    assert config.async_timeout_ns == 600 * S
    assert config.memory_bytes_max == 64 << 20
    assert (config.output_bytes_max, config.log_bytes_max) == (16 << 20, 10 << 20)
    assert config.guests_max == 1000
    assert set(config.sources.values()) == {"default"}


def test_every_setting_has_its_attribute_and_lies_within_its_limits() -> None:
    config = load()
    for setting in SETTINGS:
        assert hasattr(config, setting.attribute)
        if setting.default:
            setting.parse(setting.default)
    assert {setting.attribute for setting in SETTINGS} == set(Config.__annotations__) - {"sources"}
    assert not {setting.key for setting in SETTINGS} & set(UNSERVED)


def test_each_source_is_stronger_than_the_one_before_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[spearlet]\nnode_name = "file"\nlimits = {timeout = "1s", memory = "1MiB"}\n')
    config = configuration.load(
        str(path),
        flags={"limits.timeout": ("--timeout", "3s")},
        environ={"HOME": "/nowhere", "SPEARLET_LIMITS_TIMEOUT": "2s", "SPEARLET_NODE_NAME": "env"},
    )
    assert config.timeout_ns == 3 * S
    assert config.node_name == "env"
    assert config.memory_bytes_max == 1 << 20
    assert config.sources["limits.timeout"] == "flag --timeout"
    assert config.sources["node_name"] == "environment SPEARLET_NODE_NAME"
    assert config.sources["limits.memory"] == f"file {path}"
    assert config.sources["limits.output"] == "default"


def test_the_file_is_found_by_home(tmp_path: Path) -> None:
    (tmp_path / ".spear").mkdir()
    (tmp_path / ".spear" / "config.toml").write_text('[spearlet]\nnode_name = "home"\n')
    assert configuration.load(environ={"HOME": str(tmp_path)}).node_name == "home"


def test_spear_home_stands_in_for_the_home_s_folder(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[spearlet]\nnode_name = "own"\n')
    environ = {"HOME": "/nowhere", "SPEAR_HOME": str(tmp_path)}
    assert configuration.load(environ=environ).node_name == "own"


def test_an_empty_file_or_table_is_all_defaults(tmp_path: Path) -> None:
    assert load("", tmp_path).timeout_ns == 60 * S
    assert load("[spearlet]\n", tmp_path).timeout_ns == 60 * S


def test_a_file_asked_for_must_be_there() -> None:
    with pytest.raises(NotFound, match="no configuration file '/nowhere/at-all'"):
        configuration.load("/nowhere/at-all", environ={})


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot read"):
        configuration.load(str(tmp_path), environ={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[spearlet]\nlimits.tiemout = 5\n", "nearest known one is 'limits.timeout'"),
        ("[spearlet]\nnode_nam = 'a'\n", "nearest known one is 'node_name'"),
        ("[spearlet.limits]\nxyz = 5\n", "unknown key 'limits.xyz'"),
        ("[spearlet]\nbogus = 5\n", "known: node_name, cache_dir, executor.workers"),
        ("[spearelt]\n", "expected a table [spearlet]"),
        ("spearlet = 5\n", "expected a table, found 5"),
        ("[spearlet\n", "is not TOML"),
        ("[spearlet]\nlimits.timeout = true\n", "expected a duration"),
        ("[spearlet]\nlimits.timeout = '0s'\n", "expected 1ms to 365d, found 0s"),
        ("[spearlet]\nlimits.timeout = '400d'\n", "expected 1ms to 365d, found 400d"),
        ("[spearlet]\nlimits.timeout = -1\n", "expected 1ms to 365d, found -1"),
        ("[spearlet]\nlimits.memory = '1TiB'\n", "expected a size"),
        ("[spearlet]\nlimits.memory = '5GiB'\n", "expected 64KiB to 4GiB, found 5GiB"),
        ("[spearlet]\nlimits = 5\n", "unknown key 'limits'"),
        ("[spearlet]\nexecutor.workers = 1.5\n", "expected a whole number, found 1.5"),
        ("[spearlet]\nnode_name = ''\n", "expected a text that is not empty"),
        ("[spearlet]\ngrpc.addr = 'here'\n", "grpc.addr (file"),
        ("[spearlet]\ngrpc.addr = 'off'\n", "expected HOST:PORT"),
        ("[spearlet]\ngrpc.addr = '::1:50052'\n", "expected HOST:PORT"),
        ("[spearlet]\ngrpc.addr = '[127.0.0.1]:1'\n", "expected HOST:PORT"),
        ("[spearlet]\ngrpc.addr = '127.0.0.1:65536'\n", "expected HOST:PORT"),
        ("[spearlet]\ngrpc.enable_tls = 'maybe'\n", "expected true or false"),
        ("[spearlet]\ngrpc.enable_tls = 1\n", "expected true or false"),
        ("[spearlet]\nauth.loopback = 'closed'\n", "expected token or open, found closed"),
        ("[spearlet]\nstorage.backend = 'sled'\n", "expected rocksdb or memory, found sled"),
        ("[spearlet]\nstorage.max_cache_size_mb = 0\n", "expected 1 to 1048576, found 0"),
        ("[spearlet]\nhttp.server.addr = '127.0.0.1:8081'\n", "the HTTP surface comes later"),
        ("[spearlet]\nsms_grpc_addr = '127.0.0.1:50051'\n", "this build runs alone"),
        ("[spearlet]\nheartbeat_interval = 5\n", "this build runs alone"),
        ("[spearlet]\nllm = 1\n", "llm: expected a table, found a int"),
        ("[[spearlet.llm.backends]]\nname = 'a'\n", "llm.backends[0].kind: is missing"),
        ("[spearlet.mcp]\ndir = 'x'\n", "is not served: there is no MCP"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load(text, tmp_path)
    assert said in str(caught.value)


def test_what_is_shown_is_utf8_and_a_path_need_not_be() -> None:
    with pytest.raises(InvalidArgument, match=r"expected text in UTF-8, found '\\udcff'"):
        load(SPEARLET_NODE_NAME="\udcff")
    assert load(SPEAR_CACHE_DIR="/\udcff").cache_dir == "/\udcff"


def test_the_environment_is_checked_like_the_file() -> None:
    with pytest.raises(InvalidArgument, match="environment SPEARLET_LIMITS_TIMEOUT"):
        load(SPEARLET_LIMITS_TIMEOUT="soon")
    with pytest.raises(
        InvalidArgument, match=r"http.server.addr \(environment SPEARLET_HTTP_ADDR\)"
    ):
        load(SPEARLET_HTTP_ADDR="127.0.0.1:1")


def test_an_orchestrator_s_variables_and_empty_ones_are_no_settings() -> None:
    config = load(SPEARLET_SERVICE_HOST="10.0.0.1", SPEARLET_GRPC_ADDR="", SPEARLET_NODE_NAME="")
    assert config.sources["node_name"] == "default"


def test_the_cache_lies_where_the_platform_says() -> None:
    assert load(XDG_CACHE_HOME="/x").cache_dir == "/x/spear"
    assert load(XDG_CACHE_HOME="relative").cache_dir == "/nowhere/.cache/spear"
    assert load(SPEAR_CACHE_DIR="/own").cache_dir == "/own"
    assert load(SPEAR_CACHE_DIR="off").cache_dir is None


def test_the_daemon_s_defaults_are_those_of_the_contract() -> None:
    config = load()
    assert config.grpc_address == "127.0.0.1:50052"
    assert (config.grpc_tls, config.cert_path, config.client_ca_path) == (False, None, None)
    assert (config.storage_backend, config.kv_cache_mb) == ("rocksdb", 512)
    assert config.one_object_bytes_max == 64 << 20
    assert (config.auth_loopback, config.frames_address) == ("token", None)
    assert (config.queue_max, config.task_queue_max) == (10_000, 1_000)
    assert (config.log_level, config.log_format, config.log_path) == ("info", "auto", None)


def test_what_the_daemon_keeps_lies_in_the_data_directory_unless_said() -> None:
    config = load()
    assert config.data_dir == "/nowhere/.local/share/spear"
    assert config.socket_path == "/nowhere/.local/share/spear/spearlet.sock"
    assert config.token_path == "/nowhere/.local/share/spear/token"
    config = load(XDG_DATA_HOME="/x", SPEARLET_SOCKET="/run/spear.sock")
    assert (config.data_dir, config.socket_path) == ("/x/spear", "/run/spear.sock")
    assert config.token_path == "/x/spear/token"
    assert configuration.load(environ={}).data_dir == "/var/lib/spear"


def test_a_relative_path_is_seen_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(SPEARLET_STORAGE_DATA_DIR="node", SPEARLET_AUTH_TOKEN_FILE="../token")
    assert config.data_dir == f"{tmp_path}/node"
    assert config.socket_path == f"{tmp_path}/node/spearlet.sock"
    assert config.token_path == f"{tmp_path.parent}/token"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:50052", "127.0.0.1", 50052),
        ("[::1]:0", "::1", 0),
        ("localhost:1", "localhost", 1),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("0", False), ("False", False)])
def test_flags_are_words_in_the_environment(text: str, flag: bool) -> None:
    config = load(SPEARLET_GRPC_ENABLE_TLS=text)
    assert config.grpc_tls is flag
    assert config.text("grpc.enable_tls") == str(flag).lower()


def test_a_value_for_one_call_has_the_same_limits() -> None:
    config = load()
    assert config.number("limits.timeout", "2s") == 2 * S
    assert config.number("limits.timeout") == 60 * S
    with pytest.raises(InvalidArgument, match="timeout: expected 1ms to 365d, found 0"):
        config.number("limits.timeout", 0)


def test_rows_show_every_setting_with_its_source() -> None:
    rows = {key: (value, source) for key, value, source, _ in load(SPEAR_CACHE_DIR="off").rows()}
    assert rows["limits.memory"] == ("64MiB", "default")
    assert rows["cache_dir"] == ("off", "environment SPEAR_CACHE_DIR")
    assert list(rows)[: len(SETTINGS)] == [setting.key for setting in SETTINGS]
    assert all(key.startswith("llm.") for key in list(rows)[len(SETTINGS) :])


def test_a_flag_is_called_by_its_own_name() -> None:
    with pytest.raises(InvalidArgument) as caught:
        configuration.load(environ={}, flags={"limits.timeout": ("--timeout", "0")})
    assert str(caught.value) == "--timeout: expected 1ms to 365d, found 0"


def test_who_collects_refusals_gets_all_of_them_and_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[spearlet]\nbogus = 1\nlimits.memory = "1MiB"\nadvertise = "host"\n')
    environ = {"SPEARLET_ADVERTISE_IP": "host", "SPEARLET_LIMITS_TIMEOUT": "soon"}
    refusals: list[Refusal] = []
    config = configuration.load(str(path), environ=environ, refusals=refusals)
    assert [(refusal.key, refusal.source) for refusal in refusals] == [
        ("bogus", f"file {path}"),
        ("advertise", f"file {path}"),
        ("limits.timeout", "environment SPEARLET_LIMITS_TIMEOUT"),
        ("advertise", "environment SPEARLET_ADVERTISE_IP"),
    ]
    assert "is not served: this build runs alone" in refusals[-1].reason
    assert (config.memory_bytes_max, config.timeout_ns) == (1 << 20, 60 * S)
    assert config.sources["limits.timeout"] == "default"


def test_flags_are_raised_even_where_refusals_are_collected() -> None:
    with pytest.raises(InvalidArgument, match="--timeout"):
        configuration.load(environ={}, flags={"limits.timeout": ("--timeout", "x")}, refusals=[])


def test_only_the_given_environment_has_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".spear").mkdir()
    (tmp_path / ".spear" / "config.toml").write_text('[spearlet]\nnode_name = "mine"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for environ in ({}, {"HOME": ""}, {"HOME": "relative"}):
        config = configuration.load(environ=environ)
        assert (config.node_name, config.cache_dir) == ("localhost", None)
        assert configuration.file_path(None, environ) == ""


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (1, "1 byte"), (126, "126 bytes"), (3384, "3.3 KiB"), (65536, "64 KiB"),
     (125 << 20, "125 MiB"), (3 << 29, "1.5 GiB")],
)  # fmt: skip
def test_a_size_is_shown_as_a_person_reads_it(count: int, shown: str) -> None:
    assert show_size(count) == shown


def test_an_agent_has_64_calls_at_once_unless_it_is_configured() -> None:
    assert configuration.load(defaults={"node_name": "n"}, environ={}).agents_children_max == 64


def test_what_the_environment_says_of_grpc_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_EXPERIMENTS", "its_own")
    monkeypatch.setenv("GRPC_VERBOSITY", "")
    monkeypatch.delenv("GRPC_VERBOSITY")  # what is set from here on goes with the test
    configuration.settle_grpc()
    environ = configuration.environment()
    assert (environ["GRPC_EXPERIMENTS"], environ["GRPC_VERBOSITY"]) == ("its_own", "NONE")
    monkeypatch.delenv("GRPC_EXPERIMENTS")
    configuration.settle_grpc()
    assert environ["GRPC_EXPERIMENTS"] == "-event_engine_listener"
