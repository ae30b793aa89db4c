"""Makes artifacts of bytes: each module compiled once, however many ask for it at a time.

The rule: a compile belongs to nobody who waits for it. Who gives up leaves it to the others, and
what it made is kept. May be used from any thread, with a loop and without.
"""

from __future__ import annotations

from _thread import allocate_lock

from spear.runtime.waiting import Latch, submit
from spear.spearlet.execution.artifact import Artifact, Artifacts, digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.runtime.interface import Runtime

    Key = tuple[str, bool]  # digest, metered


class _Loading:
    """One compile on its way; after its end with neither, whoever compiled was interrupted."""

    __slots__ = ("artifact", "ended", "error")

    def __init__(self) -> None:
        self.ended = Latch()
        self.artifact: Artifact | None = None
        self.error: Exception | None = None


class Loader:
    """The artifacts of one runtime, kept within `bytes_max`; see Artifacts."""

    def __init__(self, runtime: Runtime, bytes_max: int) -> None:
        self._runtime, self._meters_all = runtime, runtime.meters(False)
        self._artifacts = Artifacts(bytes_max)
        self._loading: dict[Key, _Loading] = {}
        self._lock = allocate_lock()

    async def load(self, wasm: bytes, metered: bool = False, *, digest: str = "") -> Artifact:
        """The artifact of these bytes: one that is kept, or that of the one compile that goes on,
        or a new one. `digest` is theirs, where the caller has checked it. Raises ModuleInvalid,
        ModuleLimit."""
        key = (digest or digest_of(wasm), self._runtime.meters(metered))
        while True:
            with self._lock:
                known = self._artifacts.find(*key)
                loading = self._loading.get(key)
                begin = known is None and loading is None
                if begin:
                    loading = self._loading[key] = _Loading()
            if known is not None:
                return known
            assert loading is not None
            if begin:
                self._begin(key, wasm, loading)
            await loading.ended
            artifact, error = loading.artifact, loading.error
            try:
                if error is not None:
                    raise error
            finally:
                del loading, error  # the error's traceback holds this frame
            if artifact is not None:
                return artifact

    def find(self, digest: str, metered: bool = False) -> Artifact | None:
        """The artifact of these bytes, if it is kept."""
        with self._lock:
            return self._artifacts.find(digest, metered or self._meters_all)

    def stats(self) -> dict[str, int]:
        with self._lock:
            return self._artifacts.stats()

    def _begin(self, key: Key, wasm: bytes, loading: _Loading) -> None:
        try:
            submit(lambda: self._compile(key, wasm, loading))
        except BaseException:
            self._end(key, loading)
            raise

    def _compile(self, key: Key, wasm: bytes, loading: _Loading) -> None:
        digest, metered = key
        try:
            program = self._runtime.load(wasm, metered=metered)
            with self._lock:
                loading.artifact = self._artifacts.add(Artifact(digest, wasm, program))
        except Exception as error:  # told to all who wait, each of whom raises it
            loading.error = error
        finally:
            self._end(key, loading)
            del loading  # an error's traceback holds this frame

    def _end(self, key: Key, loading: _Loading) -> None:
        with self._lock:
            if self._loading.get(key) is loading:
                del self._loading[key]
        loading.ended.open()
