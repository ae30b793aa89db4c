"""The flush thread as plain Python, which waits for the GIL twice a flush."""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import Thread


class FlushThread:
    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._work: SimpleQueue[tuple[list[int], int] | None] = SimpleQueue()
        self._result: int | None = None
        self._busy = self._closed = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, files: list[int], folder: int = -1) -> None:
        if self._closed:
            raise RuntimeError("the flush thread was closed")
        if self._busy:
            raise RuntimeError("a flush is under way, or its end was not taken")
        self._busy = True
        self._work.put((files, folder))

    def ended(self) -> int | None:
        if self._result is None:
            return None
        if self.descriptor >= 0:
            os.eventfd_read(self.descriptor)
        result, self._result, self._busy = self._result, None, False
        return result

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._work.put(None)
            self._thread.join()
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            self._result = synced(*work)
            os.eventfd_write(self.descriptor, 1)


def synced(files: list[int], folder: int) -> int:
    try:
        for file in files:
            os.fdatasync(file)
        if folder >= 0:
            os.fsync(folder)
    except OSError as error:
        return error.errno or 0
    return 0
