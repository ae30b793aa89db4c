"""What a command says of a node elsewhere reaches the client, else what the environment says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spear.cli.visits.dial import Where, dial_client
from spear.errors import NotFound

TOKEN, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SPEAR_CA", "SPEAR_TOKEN_FILE", "GRPC_VERBOSITY"):
        monkeypatch.delenv(name, raising=False)
    for name, token in (("token", TOKEN), ("other", OTHER)):
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def asked(where: Where) -> tuple[str | None, str | None, str | None]:
    """Address, token and CA as the client has them."""
    return dial_client(where)._asked  # type: ignore[attr-defined]


def test_what_is_said_counts_before_the_environment(files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPEAR_CA", "other.pem")
    monkeypatch.setenv("SPEAR_TOKEN_FILE", str(files / "other"))
    where = Where("far:1", None, "ca.pem", str(files / "token"))
    assert asked(where) == ("far:1", TOKEN, "ca.pem")
    assert asked(Where("far:1")) == ("far:1", OTHER, "other.pem")


def test_the_environment_is_for_a_node_that_is_named(files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPEAR_CA", "other.pem")
    monkeypatch.setenv("SPEAR_TOKEN_FILE", str(files / "other"))
    assert asked(Where()) == (None, None, None)


def test_a_token_file_that_is_named_must_be_there(files: Path):
    with pytest.raises(NotFound, match="no token file"):
        dial_client(Where("far:1", token_file=str(files / "none")))


@pytest.mark.parametrize(("said", "left"), [(None, "NONE"), ("DEBUG", "DEBUG")])
def test_grpc_is_quiet_unless_the_environment_asks(
    files: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, left: str
):
    if said:
        monkeypatch.setenv("GRPC_VERBOSITY", said)
    dial_client(Where("far:1"))
    assert os.environ["GRPC_VERBOSITY"] == left
