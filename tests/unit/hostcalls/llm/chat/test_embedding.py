from __future__ import annotations

import json

import pytest

from spear.errors import InvalidArgument
from spear.hostcalls.llm.chat.embedding import TEXTS_MAX, read_request


def test_one_text_or_many() -> None:
    assert read_request(b'{"input":"a"}')[0].texts == ["a"]
    assert read_request(b'{"input":["a",""]}')[0].texts == ["a", ""]


def test_what_is_not_ours_goes_to_the_backend() -> None:
    request, timeout_ms = read_request(
        b'{"input":"a","model":"m","backend":"b","timeout_ms":7,"dimensions":3,"stream":true}'
    )
    assert (request.model, request.backend, timeout_ms) == ("m", "b", 7)
    assert request.extra == {"dimensions": 3}


def test_texts_are_bounded_in_number() -> None:
    """Each becomes a vector, however short it is."""
    assert len(read_request(json.dumps({"input": [""] * TEXTS_MAX}).encode())[0].texts) == TEXTS_MAX
    with pytest.raises(InvalidArgument, match=f"at most {TEXTS_MAX} texts"):
        read_request(json.dumps({"input": [""] * (TEXTS_MAX + 1)}).encode())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"input":[]}', '{"input":7}', '{"input":[7]}', '{"input":"a","model":7}',
     '{"input":"a","timeout_ms":-1}', '{"input":"a","timeout_ms":"5"}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no request for embeddings"):
        read_request(text.encode())
