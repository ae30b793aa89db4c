"""From files to what a node runs: a module's bytes kept there, a task's spec from a task file.

The rule: bytes that the node has already are not sent again; what a task is to be called is its
file's name, unless that or its task file says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import IO, Any

import msgspec

from spear.cli.running import inputs
from spear.cli.screens import bars
from spear.cli.visits import files
from spear.cli.visits.options import duration_ns, size_bytes
from spear.errors import InvalidArgument, NotFound
from spear.records.node import Node
from spear.records.task import Artifact, Directory, TaskSpec
from spear.spearlet import taskfile

_CHUNK_BYTES = 1 << 18


def is_task_file(path: str) -> bool:
    """A file by its ending, or the folder of a `spear.toml`."""
    return path.endswith(".toml") or os.path.isfile(os.path.join(path, taskfile.FILE_NAME))


def is_module(path: str) -> bool:
    """By its name, or by its first bytes."""
    if path.endswith((".wasm", ".wat")):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\0asm"
    except OSError:
        return False


async def spec_of(node: Node, path: str, name: str = "") -> TaskSpec:
    """Of a task file or a module; the artifact is on the node then. Raises NotFound,
    InvalidArgument."""
    if is_task_file(path) or os.path.isdir(path):
        return await filed(node, taskfile.read(path), name)
    artifact = await upload(node, path)
    return TaskSpec(name=name or files.stem(path), artifact=artifact.digest)


async def filed(node: Node, found: taskfile.TaskFile, name: str = "") -> TaskSpec:
    """The spec of a task file, its artifact put on the node."""
    spec = found.spec
    if found.path:
        artifact = await upload(node, found.path, digest=spec.artifact, runtime=spec.runtime)
        spec = msgspec.structs.replace(spec, artifact=artifact.digest)
    return msgspec.structs.replace(spec, name=name) if name else spec


async def upload(node: Node, path: str, *, digest: str = "", runtime: str = "wasm") -> Artifact:
    """Puts the file's bytes where the node has not got them. Raises InvalidArgument where they
    have not the digest."""
    with files.opened(path) as file:
        found = _digest(file)
        if digest not in ("", found):
            raise InvalidArgument(f"{path!r} has the sha256 {found}, the task file says {digest}")
        try:
            return await node.artifact(found)
        except NotFound:
            name = files.stem(path)
            return await put(node, file, path, digest=found, name=name, runtime=runtime)


async def put(
    node: Node, file: IO[bytes], path: str, *, digest: str = "", name: str = "",
    version: str = "", runtime: str = "wasm", dependencies: Sequence[str] = (),
) -> Artifact:  # fmt: skip
    """Sends the file from its beginning, in chunks, with a bar."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    chunks = bars.counted(_chunks(file), size, f"sending {os.path.basename(path)}")
    return await node.put_artifact(
        chunks, digest=digest, name=name, version=version, runtime=runtime,
        dependencies=dependencies,
    )  # fmt: skip


def _digest(file: IO[bytes]) -> str:
    import hashlib

    found = hashlib.sha256()
    for chunk in _chunks(file):
        found.update(chunk)
    return found.hexdigest()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def directories(grants: Sequence[str]) -> tuple[Directory, ...]:
    """Of `--dir` values; the paths are the node's."""
    found = []
    for grant in grants:
        host, guest, mode = inputs.grant_of(grant)
        path = os.path.abspath(host)
        found.append(Directory(host=path, guest=guest or host, writable=mode == "rw"))
    return tuple(found)


def changes(
    args: tuple[str, ...], *, description: str, env: Sequence[str], dirs: Sequence[str],
    timeout: str | None, memory: str | None, fuel: int | None, priority: str | None,
    concurrency: int | None, entries: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What the options say of a task, by the fields of its spec and, as `limits`, of its limits;
    nothing where they say nothing. Raises UsageError, InvalidArgument."""
    limits = {
        "timeout_ns": duration_ns("--timeout", timeout) if timeout else None,
        "memory_bytes": size_bytes("--memory", memory) if memory else None,
        "fuel": fuel,
    }
    found = {
        "args": args, "description": description, "env": inputs.environment(env),
        "dirs": directories(dirs), "priority": priority, "concurrency": concurrency,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "config": inputs.entries(entries),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def changed(spec: TaskSpec, change: dict[str, Any]) -> TaskSpec:
    """The spec with what the options say: their variables and entries beside its own, all else in
    its place."""
    change = dict(change)
    for name in ("env", "config"):
        if name in change:
            change[name] = getattr(spec, name) | change[name]
    if "limits" in change:
        change["limits"] = msgspec.structs.replace(spec.limits, **change["limits"])
    return msgspec.structs.replace(spec, **change)
