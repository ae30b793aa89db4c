"""Whatever a task file holds, the answer is a spec or InvalidArgument, in a short sentence."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear.errors import InvalidArgument
from spear.spearlet.taskfile import parse

KEYS = [
    "name", "artifact", "runtime", "entry", "args", "env", "env.A", "env.A.from", "config",
    "metadata.k", "endpoint", "priority", "concurrency", "queue", "limits", "limits.timeout",
    "limits.memory", "limits.output", "limits.log", "limits.fuel", "resources.cpu",
    "resources.memory", "retry.attempts", "retry.backoff", "retry.on", "pool.min", "pool.max",
    "pool.idle", "pool.isolation", "dirs", "objects.grants", "webhook", "idempotency_key",
    "artifact.path", "artifact.uri", "artifact.checksum", "checksum", "network", "wrong",
]  # fmt: skip
SCALARS = st.one_of(
    st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=True)),
    st.sampled_from([
        '"wasm"', '"5s"', '"16MiB"', '"normal"', '"TRAP"', '"fresh"', '"a.wasm"', '"http://a/"',
        '"env:A"', '"file:///a"', '"sha256:x"', "1979-05-27T07:32:00Z", "07:32:00", "nan", "-inf",
        "1e300", "true", "0x7fffffffffffffffffff", '"' + "9" * 40 + 's"',
    ]),
    st.integers().map(str),
    st.floats().map(repr),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(
            st.sampled_from(["from", "host", "guest", "path", "uri", "x"]), inner, max_size=3
        ).map(lambda items: f"{{{', '.join(f'{key} = {item}' for key, item in items.items())}}}"),
    ),
    max_leaves=6,
)
LINES = st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=12)


def check(content: bytes) -> bool:
    try:
        parse(content, "spear.toml", "/base")
    except InvalidArgument as error:
        assert str(error).startswith("spear.toml")
        assert len(str(error)) < 1000
        return False
    return True


@settings(deadline=None, max_examples=examples(400))
@given(LINES)
def test_any_values_of_any_keys(lines: list[tuple[str, str]]) -> None:
    check("\n".join(f"{key} = {value}" for key, value in lines).encode())


@settings(deadline=None, max_examples=examples(400))
@given(st.sampled_from(KEYS), VALUES)
def test_one_strange_value_in_a_file_that_is_right(key: str, value: str) -> None:
    lines = {"name": '"t"', "artifact": '"a.wasm"', key: value}
    check("\n".join(f"{key} = {value}" for key, value in lines.items()).encode())


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    check(content)
