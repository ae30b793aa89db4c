"""Artifacts are kept once, within their bytes; the least recently used leave."""

from __future__ import annotations

from spear.runtime.stub import StubProgram
from spear.spearlet.execution.artifact import Artifact, Artifacts, digest_of


def artifact(tail: bytes) -> Artifact:
    wasm = b"stub" + tail
    return Artifact(digest_of(wasm), wasm, StubProgram(wasm))


def test_the_same_bytes_are_kept_once() -> None:
    artifacts = Artifacts(100)
    first = artifacts.add(artifact(b"a"))
    assert artifacts.add(artifact(b"a")) is first
    assert artifacts.stats() == {"count": 1, "bytes": 5}


def test_the_least_recently_used_leaves_first() -> None:
    artifacts = Artifacts(10)
    a, b, c = (artifacts.add(artifact(tail)) for tail in (b"a", b"b", b"c"))
    assert artifacts.find(a.digest) is None
    artifacts.find(b.digest)
    artifacts.add(artifact(b"d"))
    assert artifacts.find(b.digest) is b
    assert artifacts.find(c.digest) is None
    assert artifacts.stats() == {"count": 2, "bytes": 10}


def test_one_larger_than_the_budget_is_used_but_not_kept() -> None:
    artifacts = Artifacts(4)
    big = artifact(b"x" * 100)
    assert artifacts.add(big) is big
    assert artifacts.stats() == {"count": 0, "bytes": 0}
