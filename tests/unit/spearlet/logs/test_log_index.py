"""What lies where in a file: saved, read back, and never trusted when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.spearlet.logs import lines as on_disk
from spear.spearlet.logs.index import LINES, TOMBSTONE, FileIndex, key_of
from spear.spearlet.logs.lines import StoredLine

A, B = (key_of(on_disk.head_of(name)) for name in ("a", "b"))


def filled() -> FileIndex:
    index = FileIndex()
    index.add(A, 10, 20)
    index.add(A, 20, 30)
    index.add(B, 30, 40)
    index.add(A, 40, 50)
    index.add(A, 50, 60, TOMBSTONE)
    index.add(A, 60, 70)
    return index


def spans(index: FileIndex, key: int) -> list[tuple[int, int, int]]:
    return [tuple(entry) for entry in index.find(key)]


def test_runs_of_lines_are_one_entry_and_tombstones_stay_apart() -> None:
    index = filled()
    assert spans(index, A) == [(LINES, 10, 30), (LINES, 40, 50), (TOMBSTONE, 50, 60),
                               (LINES, 60, 70)]  # fmt: skip
    assert spans(index, B) == [(LINES, 30, 40)]
    assert spans(index, 1) == []


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 300)), max_size=50))
def test_a_hash_is_found_only_where_it_is_one(runs: list[tuple[int, int]]) -> None:
    index, expected, at = FileIndex(), {}, 0
    for key, size in runs:
        index.add(key, at + 1, at + 1 + size)
        expected.setdefault(key, []).append((LINES, at + 1, at + 1 + size))
        at += 1 + size
    for key, found in expected.items():
        assert spans(index, key) == found


def test_it_is_saved_and_goes_on(tmp_path: Path) -> None:
    path = str(tmp_path / "x.index")
    filled().save(path)
    index = FileIndex.load(path, 70)
    assert (spans(index, A), index.covered) == (spans(filled(), A), 70)
    index.add(B, 70, 80)
    index.save(path)
    assert spans(FileIndex.load(path, 80), B) == [(LINES, 30, 40), (LINES, 70, 80)]
    assert (tmp_path / "x.index").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", range(0, 96, 5))
def test_a_damaged_one_is_empty(tmp_path: Path, at: int) -> None:
    path = tmp_path / "x.index"
    filled().save(str(path))
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x40
    path.write_bytes(data)
    loaded = FileIndex.load(str(path), 70)
    assert (loaded.covered, spans(loaded, A)) == (0, [])
    path.write_bytes(data[: at % len(data)])
    assert FileIndex.load(str(path), 70).covered == 0


def test_one_that_covers_more_than_the_file_has_is_not_of_this_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x.index")
    filled().save(path)
    assert FileIndex.load(path, 69).covered == 0
    assert FileIndex.load(str(tmp_path / "none"), 69).covered == 0


def test_a_file_is_indexed_as_it_was_written() -> None:
    a, b = (
        on_disk.encode([StoredLine(name, 1, 0, "info", "log", "t", "", "", "x")]) for name in "ab"
    )
    data = on_disk.file_header(1) + a + a + b + b"junk\n" + on_disk.encode_tombstone("a") + b"to"
    index = FileIndex()
    index.add_file(data, 0)
    at, size = len(on_disk.file_header(1)), len(a)
    assert spans(index, A)[:1] == [(LINES, at, at + 2 * size)]
    assert [kind for kind, _, _ in spans(index, A)] == [LINES, TOMBSTONE]
    assert spans(index, B) == [(LINES, at + 2 * size, at + 3 * size)]
    assert index.covered == len(data) - 2
    index.add_file(b"no line at all", index.covered)
    assert index.covered == len(data) - 2 + 14
