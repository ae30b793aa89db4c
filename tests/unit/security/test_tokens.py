"""The token file: made once, closed to others, refused otherwise; how tokens are compared."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from spear.clock import Clock
from spear.errors import InvalidArgument, NotFound, PermissionDenied
from spear.security import tokens
from spear.security.tokens import Token, open_token, read_token

GOOD = "a" * 64


def written(path: Path, content: str, mode: int = 0o600) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_the_first_start_makes_a_token_that_the_next_one_finds(tmp_path: Path) -> None:
    path = str(tmp_path / "token")
    made = open_token(path, Clock())
    assert len(bytes.fromhex(made)) == 32
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert open_token(path, Clock()) == made == read_token(path)
    assert os.listdir(tmp_path) == ["token"]


def test_two_nodes_have_two_tokens(tmp_path: Path) -> None:
    one, other = (open_token(str(tmp_path / name), Clock()) for name in ("one", "other"))
    assert one != other


def test_many_that_make_it_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    link = os.link

    def linked(source: str, target: str) -> None:
        together.wait(30)
        link(source, target)

    monkeypatch.setattr(tokens.os, "link", linked)
    found: list[str] = []

    def start() -> None:
        found.append(open_token(str(tmp_path / "token"), Clock()))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert os.listdir(tmp_path) == ["token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "token", GOOD, mode)
    with pytest.raises(PermissionDenied, match=f"mode {mode:04o}.*chmod 600"):
        open_token(path, Clock())


def test_a_file_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "token", GOOD)
    owner = os.stat(path).st_uid
    monkeypatch.setattr(tokens.os, "geteuid", lambda: owner + 1)
    if owner != 0:
        with pytest.raises(PermissionDenied, match=f"belongs to user {owner}"):
            read_token(path)
    else:
        os.chown(path, 12345, -1)
        with pytest.raises(PermissionDenied, match="belongs to user 12345"):
            read_token(path)


@pytest.mark.parametrize("content", ["", "short", "a" * 31, "a b" * 20, "a" * 4097, "ä" * 40])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidArgument, match="holds no token"):
        open_token(written(tmp_path / "token", content), Clock())


def test_a_token_of_one_s_own_is_taken(tmp_path: Path) -> None:
    assert open_token(written(tmp_path / "token", f"  {GOOD}\n"), Clock()) == GOOD


def test_a_token_file_that_is_none_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises((InvalidArgument, PermissionDenied), match=r"regular|cannot read"):
            read_token(str(path))


def test_a_token_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot make the token file"):
        open_token(str(tmp_path / "missing" / "token"), Clock())


def test_who_only_reads_is_told_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="at its first start"):
        read_token(str(tmp_path / "token"))


@pytest.mark.parametrize("shown", ["", GOOD[:-1], GOOD + "a", GOOD.upper(), "é" * 64, "\udcff"])
def test_only_the_token_itself_matches(shown: str) -> None:
    token = Token(GOOD)
    assert token.matches(GOOD)
    assert not token.matches(shown)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (f"Bearer {GOOD}", True), (f"bearer {GOOD}", True), (f"BEARER {GOOD}", True),
        (GOOD, False), (f"Basic {GOOD}", False), ("Bearer ", False), ("", False),
        (f"Bearer  {GOOD}", False), (f"Bearer {GOOD} ", False), (f"Bearer{GOOD}", False),
    ],
)  # fmt: skip
def test_a_header_shows_the_token_as_a_bearer(header: str, matches: bool) -> None:
    assert Token(GOOD).matches_bearer(header) is matches


def test_a_token_shows_itself_nowhere() -> None:
    assert GOOD not in repr(Token(GOOD))
    assert GOOD not in str(Token(GOOD))
