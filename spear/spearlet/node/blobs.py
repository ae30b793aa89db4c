"""Files by the sha256 of their bytes: artifacts, and what is too large for a row.

The rule: a file has its name only once it is whole, so a reader finds all of it or nothing; what is
read is checked against its name. Who puts one holds it until the row that names it is kept, and
what is held is not deleted. The calls that touch the disk run on a helper thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

from spear.errors import InvalidArgument, KvDamaged, KvFull, NotFound
from spear.kv.archive import sync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from typing import TypeVar

    T = TypeVar("T")

CHUNK_BYTES = 65536
READ_BYTES = 1 << 20  # of a file, for one who takes it in pieces
_DIGEST_LETTERS = 64
_SLICE = 100  # files looked at in one turn of the loop
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Blobs:
    """The files of one folder, two levels deep; made when the first is put. While it is `frozen`
    nothing is deleted."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)  # of files being written, on any thread
        self._writing: set[str] = set()  # names of files without their own
        self._held: dict[str, int] = {}
        self._made = False
        self.frozen = False

    async def put(self, data: bytes, *, sync: bool) -> str:
        """Keeps the bytes and gives their digest, held; `sync`: they survive a power cut. Raises
        KvFull."""
        digest = await _offload(lambda: hashlib.sha256(data).hexdigest())
        self.hold(digest)
        try:
            await _offload(lambda: self._put(digest, (data,), sync))
        except BaseException:
            self.let_go(digest)
            raise
        return digest

    def hold(self, digest: str) -> None:
        """It is not deleted until it was let go as often as it was held."""
        self._held[digest] = self._held.get(digest, 0) + 1

    def let_go(self, digest: str) -> None:
        left = self._held.pop(digest) - 1
        if left:
            self._held[digest] = left

    async def put_stream(
        self, chunks: AsyncIterator[bytes], *, bytes_max: int, digest: str = ""
    ) -> tuple[str, int]:
        """Keeps what comes, and gives its digest, held, and its size. Raises InvalidArgument where
        it is longer than `bytes_max` or has another digest than the one given; KvFull."""
        path = self._temporary()
        found, size, name = hashlib.sha256(), 0, ""
        file = _opened(path)
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > bytes_max:
                    raise InvalidArgument(f"the artifact is longer than {bytes_max} bytes")
                found.update(chunk)
                await _offload(lambda piece=chunk: _written(file, piece))  # type: ignore[misc]
            if digest and digest != found.hexdigest():
                raise InvalidArgument(
                    f"the bytes have the sha256 {found.hexdigest()}, not {digest}"
                )
            name = found.hexdigest()
            self.hold(name)
            await _offload(lambda: self._name(file, path, name, True))
        except BaseException:
            if name in self._held:
                self.let_go(name)
            with contextlib.suppress(FileNotFoundError):  # it has its own name by now
                os.unlink(path)
            raise
        finally:
            os.close(file)
            self._writing.discard(path)
        return name, size

    def size(self, digest: str) -> int:
        """Of the file; 0 where it is not there."""
        try:
            return os.stat(self._path(digest)).st_size
        except OSError:
            return 0

    async def read(self, digest: str) -> bytes:
        """All of it, checked. Raises NotFound, KvDamaged."""
        return await _offload(lambda: self.read_now(digest))

    def read_now(self, digest: str) -> bytes:
        """As `read`, on this thread."""
        with self._to_read(digest) as file:
            data = file.read()
        _check(digest, hashlib.sha256(data).hexdigest())
        return data

    async def chunks(self, digest: str) -> AsyncGenerator[bytes, None]:
        """In pieces of 64 KiB, checked as a whole before the first; held meanwhile, and no more
        than READ_BYTES of it in memory, however slowly it is taken. Raises NotFound, KvDamaged."""
        self.hold(digest)
        try:
            size = await _offload(lambda: self._checked_size(digest))
            for start in range(0, size, READ_BYTES):
                data = await _offload(partial(self._part, digest, start, size))
                for at in range(0, len(data), CHUNK_BYTES):
                    yield data[at : at + CHUNK_BYTES]
        finally:
            self.let_go(digest)

    def _checked_size(self, digest: str) -> int:
        with self._to_read(digest) as file:
            _check(digest, hashlib.file_digest(file, "sha256").hexdigest())
            return file.tell()

    def _part(self, digest: str, start: int, size: int) -> bytes:
        with self._to_read(digest) as file:
            file.seek(start)
            data = file.read(READ_BYTES)
        if len(data) != min(READ_BYTES, size - start):
            raise KvDamaged(f"the file of {digest} was cut while it was read")
        return data

    @contextlib.contextmanager
    def _to_read(self, digest: str) -> Iterator[BufferedReader]:
        try:
            with open(self._path(digest), "rb") as file:
                yield file
        except FileNotFoundError:
            raise NotFound(f"the bytes {digest} are not on this node") from None
        except OSError as error:
            raise KvDamaged(f"the file of {digest} cannot be read: {error.strerror}") from error

    def delete(self, digest: str) -> None:
        """Nothing where it is not there, or held; what is left so is garbage, and is swept."""
        if self.frozen or digest in self._held:
            return
        try:
            os.unlink(self._path(digest))
        except FileNotFoundError:
            return

    async def sweep(self, needed: Callable[[str], bool]) -> int:
        """Deletes the files that nobody needs and what a crash left half written; how many."""
        gone = 0
        for number, (path, name) in enumerate(await _offload(lambda: list(self._files()))):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            if self.frozen or path in self._writing or name in self._held or needed(name):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                os.unlink(path)
                gone += 1
        return gone

    async def copy_to(self, folder: str) -> int:
        """All files, checked, in another place, which is made; how many."""
        return await _offload(lambda: self._copy_to(folder))

    def _copy_to(self, folder: str) -> int:
        other, count = Blobs(folder), 0
        for _, name in self._files():
            if len(name) == _DIGEST_LETTERS:  # the others are half written
                other._put(name, (self.read_now(name),), True)
                count += 1
        return count

    def _files(self) -> Iterator[tuple[str, str]]:
        for folder, _, names in os.walk(self._folder):
            for name in names:
                yield os.path.join(folder, name), name

    def _path(self, digest: str) -> str:
        return os.path.join(self._folder, digest[:2], digest)

    def _temporary(self) -> str:
        if not self._made:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._made = True
        path = os.path.join(self._folder, f"writing-{os.getpid()}-{next(self._numbers)}")
        self._writing.add(path)
        return path

    def _put(self, digest: str, pieces: tuple[bytes, ...], sync: bool) -> None:
        if os.path.exists(self._path(digest)):
            if sync:  # who wrote it may not have asked for that
                _sync_file(self._path(digest))
                self._sync_folders(digest)
            return
        path = self._temporary()
        file = _opened(path)
        try:
            for piece in pieces:
                _written(file, piece)
            self._name(file, path, digest, sync)
        except BaseException:
            if os.path.exists(path):
                os.unlink(path)
            raise
        finally:
            os.close(file)
            self._writing.discard(path)

    def _name(self, file: int, path: str, digest: str, sync: bool) -> None:
        target = self._path(digest)
        with _room():
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            if sync:
                os.fdatasync(file)
            os.rename(path, target)
            if sync:
                self._sync_folders(digest)

    def _sync_folders(self, digest: str) -> None:
        sync_folder(os.path.dirname(self._path(digest)))
        sync_folder(self._folder)


class _room:
    """Says of a full disk what it is."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise KvFull(f"no room on the disk: {error.strerror}") from error


def _check(digest: str, found: str) -> None:
    if found != digest:
        raise KvDamaged(
            f"the file of {digest} is damaged, its bytes have the sha256 {found}: put it again"
        )


def _opened(path: str) -> int:
    with _room():
        # What is there already was left by a process of the same id that died.
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _written(file: int, data: bytes) -> None:
    view = memoryview(data)
    with _room():
        while view:
            view = view[os.write(file, view) :]


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def _offload(call: Callable[[], T]) -> T:
    """On a helper thread. A caller that is cancelled goes when that is done, since it may close
    what the thread uses."""
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait((future,))
        if not future.cancelled():
            future.exception()  # which nobody asks for any more
        raise
