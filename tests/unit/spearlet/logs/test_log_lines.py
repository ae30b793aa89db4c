"""Lines on disk: written as JSON, read with distrust."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from spear.spearlet.logs import lines as on_disk
from spear.spearlet.logs.lines import StoredLine


def stored(message: str = "hello", execution_id: str = "e1", seq: int = 1) -> StoredLine:
    return StoredLine(execution_id, seq, 5, "info", "log", "task", "i1", "n1", message)


def test_a_line_has_every_field_and_the_execution_first() -> None:
    data = on_disk.encode([stored()])
    assert list(json.loads(data)) == [
        "execution_id", "seq", "time_ms", "level", "stream", "task", "instance_id", "node",
        "message",
    ]  # fmt: skip
    assert data.startswith(on_disk.head_of("e1"))


@given(st.lists(st.text(), min_size=1))
def test_any_message_is_one_line_and_comes_back(texts: list[str]) -> None:
    data = on_disk.encode([stored(text, seq=n) for n, text in enumerate(texts)])
    assert data.count(b"\n") == len(texts)
    assert not data.translate(None, b"\n").strip(bytes(range(32, 127)) + bytes(range(128, 256)))
    found = list(on_disk.decode_own(data, on_disk.head_of("e1")))
    assert [line.message for line in found if line] == texts


def test_half_a_surrogate_pair_is_written_visibly() -> None:
    data = on_disk.encode([stored("a\ud800b")])
    (line,) = on_disk.decode_own(data, on_disk.head_of("e1"))
    assert line is not None
    assert line.message == "a\\ud800b"


def test_only_the_own_lines_are_decoded_also_when_others_quote_them() -> None:
    own, head = on_disk.encode([stored("mine")]), on_disk.head_of("e1")
    others = on_disk.encode([stored(own.decode(), "e11"), stored(own.decode(), "e2")])
    damaged = head + b',"seq":"x"}\n' + head + b"\xff}\n"
    data = others + own + damaged + others + on_disk.encode_tombstone("e1") + own
    found = list(on_disk.decode_own(data, head))
    assert [line and line.message for line in found] == ["mine", None, None, "mine"]
    last = on_disk.last_own(own + damaged + others, head)
    assert last is not None
    assert last.message == "mine"
    assert on_disk.last_own(damaged, head) is None


def test_lines_are_split_with_the_head_of_ours() -> None:
    data = b"junk\n" + on_disk.encode([stored()]) + b"\n" + b'{"execution_id":5}\n' + b"torn"
    assert [head for _, _, head in on_disk.split(data)] == [b"", on_disk.head_of("e1"), b"", b""]


@given(st.binary())
def test_no_bytes_break_the_readers(data: bytes) -> None:
    spans = [(begin, end) for begin, end, _ in on_disk.split(data)]
    assert b"".join(data[begin:end] for begin, end in spans) == data[: data.rfind(b"\n") + 1]
    list(on_disk.decode_own(data, on_disk.head_of("e1")))
    on_disk.last_own(data, on_disk.head_of("e1"))
    on_disk.began_of(data)


def test_a_file_says_when_it_began() -> None:
    assert on_disk.began_of(on_disk.file_header(123).rstrip()) == 123
    assert on_disk.began_of(b"{}") is None
