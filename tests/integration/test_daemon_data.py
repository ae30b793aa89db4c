"""A daemon and its data directory: of an older layout, of a newer one, damaged, read-only, full.

Rule: what is refused at start is refused with its exit code and one sentence, before a door opens,
and the directory is left as it was.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon
from rocksdict import Options, Rdict
from small_disk import fill, small_disk

from spear.errors import KvFull, NotFound, SpearError
from spear.kv import format
from spear.kv.rows import seal, unseal
from spear.records.execution import Execution, Invocation
from spear.spearlet.node import rows
from spear.spearlet.node.upkeep import accept_loss

KEYED = Invocation(idempotency_key="monday", args=("Ada",))
LARGE = bytes(range(256)) * 1000


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_mib=96) as path:  # 32 must be free to go on
        yield path


async def used(daemon: RealDaemon) -> list[Execution]:
    """What a daemon that ended in order has kept: a call, one with a key, one that was submitted,
    with a result that lies in a file."""
    client = await daemon.live()
    await daemon.register("answer")
    await daemon.register("echo")
    made = [
        await client.invoke("answer", b"in"),
        await client.invoke("answer", b"in", KEYED),
        await client.wait((await client.submit("echo", LARGE)).id),
    ]
    await ended(daemon)
    return made


async def ended(daemon: RealDaemon) -> None:
    daemon.signal()
    assert await daemon.end() == 0
    await daemon.client.close()


async def holds(daemon: RealDaemon, made: list[Execution]) -> None:
    """It is all there, and the key is still that of its execution."""
    page = await daemon.client.executions()
    assert [found.id for found in page.executions] == [was.id for was in reversed(made)]
    for was in made:
        now = await daemon.client.execution(was.id, include_output=True)
        assert (now.status, now.output) == (was.status, was.output) == ("completed", was.output)
    assert (await daemon.client.invoke("answer", b"in", KEYED)).id == made[1].id
    fresh = await daemon.client.invoke("answer", b"in", Invocation(args=("Grace",)))
    assert b"Grace" in fresh.output


def raw(daemon: RealDaemon) -> Rdict:
    return Rdict(str(daemon.data / "metadata"), Options(raw_mode=True))


def all_rows(daemon: RealDaemon) -> dict[bytes, bytes]:
    db = raw(daemon)
    try:
        return dict(db.items())
    finally:
        db.close()


def all_files(daemon: RealDaemon) -> dict[str, bytes]:
    """But the metadata, which RocksDB has its own files for, and the lock with its process."""
    return {
        str(path.relative_to(daemon.data)): path.read_bytes()
        for path in daemon.data.rglob("*")
        if path.is_file() and "metadata" not in path.parts and path.name != "daemon.lock"
    }


def as_of_format_1(daemon: RealDaemon) -> None:
    """As a version wrote it that knew one kind of row by time."""
    db = raw(daemon)
    db[format.FORMAT] = seal(format.FORMAT, b"1")
    for key, value in list(db.items()):
        if key.startswith(rows.HELD_BY_TIME):
            older = rows.PLAIN_BY_TIME + key.removeprefix(rows.HELD_BY_TIME)
            db[older] = seal(older, unseal(key, value))
            del db[key]
    db.close()


async def test_a_directory_of_format_1_is_taken_over_with_all_that_it_holds(
    daemon: RealDaemon,
) -> None:
    made = await used(daemon)
    as_of_format_1(daemon)
    before = all_rows(daemon)
    assert not any(key.startswith(rows.HELD_BY_TIME) for key in before)
    await daemon.live()
    await holds(daemon, made)
    await ended(daemon)
    after = all_rows(daemon)
    assert unseal(format.FORMAT, after[format.FORMAT]) == b"%d" % format.CURRENT
    await daemon.live()
    assert (await daemon.client.invoke("answer", b"in", KEYED)).id == made[1].id


async def test_a_directory_of_a_newer_format_is_refused_and_left_as_it_is(
    daemon: RealDaemon,
) -> None:
    made = await used(daemon)
    db = raw(daemon)
    current = db[format.FORMAT]
    db[format.FORMAT] = seal(format.FORMAT, b"%d" % (format.CURRENT + 1))
    db[b"of a layout to come"] = b"bare"
    db.close()
    before = all_rows(daemon), all_files(daemon)
    code, said = await daemon.refused("--real")
    assert code == 4
    assert f"has format {format.CURRENT + 1}, this SPEAR knows up to {format.CURRENT}" in said
    assert len(said.splitlines()) == 1
    assert not daemon.ports.exists()
    assert not (daemon.data / "spearlet.sock").exists()
    assert (all_rows(daemon), all_files(daemon)) == before
    db = raw(daemon)
    db[format.FORMAT] = current
    del db[b"of a layout to come"]
    db.close()
    await daemon.live()  # as the newer SPEAR would find it
    await holds(daemon, made)


def cut(path: Path) -> None:
    """To half of what is written in it: a log has zeros behind that."""
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[: len(data) // 2])


def scrambled(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("MANIFEST", Path.unlink), ("MANIFEST", cut), (".log", Path.unlink), (".log", cut),
    (".log", scrambled), ("SPEAR-SYNCED", scrambled),
]  # fmt: skip


async def test_a_damaged_database_is_told_at_start(daemon: RealDaemon, tmp_path: Path) -> None:
    await daemon.live()
    await daemon.register("hello")
    await daemon.die()
    whole, metadata = tmp_path / "whole", daemon.data / "metadata"
    metadata.rename(whole)
    before = all_files(daemon)
    for kind, damage in DAMAGES:
        shutil.copytree(whole, metadata)
        for path in metadata.iterdir():
            if kind in path.name and path.stat().st_size:
                damage(path)
        code, said = await daemon.refused("--real")
        assert (code, len(said.splitlines())) == (1, 1), (kind, damage, said)
        assert said.startswith("error: ")
        assert str(metadata) in said
        assert not daemon.ports.exists()
        assert all_files(daemon) == before
        shutil.rmtree(metadata)
    whole.rename(metadata)
    await daemon.live()
    assert [task.name for task in await daemon.client.tasks()] == ["hello"]


async def kept_but_one(daemon: RealDaemon, older: bool) -> tuple[list[Execution], bytes]:
    """What is kept, where the newest record cannot be read; its key."""
    made = await used(daemon)
    if older:
        as_of_format_2(daemon)
    newest = rows.ENDED + max(made, key=lambda execution: execution.id).id.encode()
    db = raw(daemon)
    db[newest] = b"\x00" + db[newest][1:]
    db.close()
    return made, newest


def as_of_format_2(daemon: RealDaemon) -> None:
    """As a version wrote it whose rows by time do not say how many bytes a record takes."""
    db = raw(daemon)
    db[format.FORMAT] = seal(format.FORMAT, b"2")
    for key, value in list(db.items()):
        if key.startswith(rows.BY_TIME):
            row = unseal(key, value)
            db[key] = seal(key, row[:8] + b"+" + row[17:])
    db.close()


@pytest.mark.parametrize("older", [False, True])
async def test_a_damaged_record_is_told_at_start_and_can_be_given_up(
    daemon: RealDaemon, older: bool
) -> None:
    made, damaged = await kept_but_one(daemon, older)
    code, said = await daemon.refused("--real")
    assert (code, len(said.splitlines())) == (1, 1), said
    assert repr(damaged) in said
    assert "spear node accept-loss" in said
    umask = os.umask(0o022)
    try:
        found = await accept_loss(str(daemon.data))
    finally:
        os.umask(umask)
    assert not any(file.stat().st_mode & 0o077 for file in (daemon.data / "metadata").iterdir())
    assert found.lost == [f"key {damaged!r}"]
    db = Rdict(found.kept_in, Options(raw_mode=True))
    assert db[damaged].startswith(b"\x00")
    db.close()
    client = await daemon.live()
    kept = [was for was in made if was.id.encode() not in damaged]
    assert [now.id for now in (await client.executions()).executions] == [
        was.id for was in reversed(kept)
    ]
    for was in kept:
        assert (await client.execution(was.id, include_output=True)).output == was.output
    with pytest.raises(NotFound):
        await client.execution(damaged.removeprefix(rows.ENDED).decode())
    await client.collect_garbage()


async def test_a_directory_on_a_read_only_disk_is_refused(
    daemon: RealDaemon, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "ro") as disk:
        daemon.data = disk
        code, said = await daemon.refused("--real")
    assert code == 4
    assert "cannot write in the data directory" in said
    assert "Read-only file system" in said
    assert len(said.splitlines()) == 1


async def test_a_start_without_room_is_refused(daemon: RealDaemon, disk: Path) -> None:
    fill(disk)
    daemon.data = disk / "data"
    code, said = await daemon.refused("--real")
    assert code == 6, said
    assert "No space left" in said
    assert len(said.splitlines()) == 1
    assert not daemon.ports.exists()


async def test_a_disk_that_becomes_full_refuses_work_until_there_is_room(
    daemon: RealDaemon, disk: Path
) -> None:
    """Nothing that was accepted is lost, what is refused is said, and no restart is needed."""
    daemon.data = disk / "data"
    client = await daemon.live()
    await daemon.register("answer")
    await daemon.register("echo")
    kept = [await client.wait((await client.submit("answer", b"in")).id)]
    filler = fill(disk)
    with pytest.raises(KvFull, match="No space left"):
        while True:
            kept.append(await client.wait((await client.submit("answer", b"in")).id))
    refused = await asyncio.gather(
        client.submit("answer", b"in"), client.submit("echo", LARGE),
        client.put_object("shared/a", LARGE, durable=True), return_exceptions=True,
    )  # fmt: skip
    assert {type(error) for error in refused} == {KvFull}, refused
    for was in kept:
        now = await client.execution(was.id, include_output=True)
        assert (now.status, now.output) == ("completed", was.output)
    filler.unlink()
    kept.append(await client.wait((await client.submit("echo", LARGE)).id))
    await daemon.die()
    client = await daemon.live()
    page = await client.executions(limit=1000)
    assert {was.id for was in kept} <= {found.id for found in page.executions}
    for was in kept:
        assert (await client.execution(was.id, include_output=True)).output == was.output
    for found in page.executions:
        assert found.ended
    with pytest.raises(SpearError):
        await client.stat_object("shared/a")
