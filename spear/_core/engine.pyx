"""Wasmtime through its C API: compile or load from the cache, link, ready to instantiate.

Rule: one engine serves guests of both shapes, since memories and fiber stacks come from our own
recycler (guestmem.h); it is made when the first module is loaded. What a module declares is checked
before it is compiled, so that every refusal names what was found. Compiled code in the cache is
trusted only in a folder and file that nobody else can write, with its checksum right.
"""

import os
from _thread import allocate_lock

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.hostabi cimport hostabi_table
from spear._core.guest cimport TABLES_MAX
from spear._core.imports cimport import_row, import_table
from spear._core.innerwaits cimport inner_wait_link
from spear._core.shim cimport shim_free, shim_new
from spear._core.trial cimport trial_table
from spear._core.wasi cimport wasi_table

from spear._core import aotcache, engineapi as _engineapi, wasmfile
from spear._core.compiler import Compiler
from spear.errors import EngineUnavailable, InvalidArgument, ModuleInvalid, ModuleLimit

cdef extern from "guestmem.h" nogil:
    ctypedef struct gm_pool:
        pass
    ctypedef struct gm_options:
        uint32_t memories_max
        uint32_t stacks_max
        size_t stack_bytes
    ctypedef struct gm_stats:
        uint64_t memories_made, memories_idle, stacks_made, stacks_idle, idle_bytes
        uint64_t zeroed, dropped, bytes_zeroed, adapted
    ctypedef struct gm_wasmtime:
        void *error_new
        void *host_memory_creator_set
        void *host_stack_creator_set
        void *memory_init_cow_set
    ctypedef enum gm_clean:
        GM_CLEAN_AUTO
        GM_CLEAN_SCAN
        GM_CLEAN_READ
        GM_CLEAN_DROP
    gm_pool *gm_pool_new(const gm_options *options, char *why, size_t why_len)
    void gm_pool_release(gm_pool *pool)
    gm_clean gm_pool_clean(const gm_pool *pool)
    void gm_pool_stats(gm_pool *pool, gm_stats *out)
    void gm_pool_trim(gm_pool *pool)
    void gm_install(gm_pool *pool, wasm_config_t *config, const gm_wasmtime *api)

cdef extern from "wasmsettings.h" nogil:
    const size_t SPEAR_WASM_STACK_BYTES, SPEAR_FIBER_STACK_BYTES
    void wasm_settings_apply(wasm_config_t *config, bint metered)

wasmtime_bind(engineapi.functions())

VERSION_FLOOR = _engineapi.VERSION_FLOOR
VERSION_CEILING = _engineapi.VERSION_CEILING
library = _engineapi.library

WASM_STACK_BYTES = SPEAR_WASM_STACK_BYTES
FIBER_STACK_BYTES = SPEAR_FIBER_STACK_BYTES
TABLE_ELEMENTS_MAX = 100_000
PLACE_BYTES_MAX = 256 << 10    # of a module whose data is copied without a look at the clock
# What a compiled module depends on beside the engine's version; part of the cache's key.
SETTINGS = f"epoch stack={WASM_STACK_BYTES} copied-data one-memory 1"

cdef dict _LETTERS = {"i": "i32", "I": "i64"}


cdef str _take_error(wasmtime_error_t *error):
    """The engine's message; the error is deleted."""
    cdef wasm_byte_vec_t text
    wasmtime_error_message(error, &text)
    message = text.data[:text.size].decode("utf-8", "replace")
    wasm_byte_vec_delete(&text)
    wasmtime_error_delete(error)
    return message


# ---- the host's import tables

cdef str _signature(const import_row *row):
    params = ", ".join(_LETTERS[letter] for letter in row.params.decode())
    results = ", ".join(_LETTERS[letter] for letter in row.results.decode())
    return f"({params}) -> {results or '()'}"


cdef import_table _table(int number) noexcept:
    if number == 0:
        return hostabi_table()
    return wasi_table() if number == 1 else trial_table()


cdef str _served_by(const import_row *row):
    if row.posted != NULL:
        return "python"
    return "native" if row.served else "not yet"


def describe_imports(*, bint trial=False):
    """Each import a guest may have; see engine.pyi."""
    found = {}
    cdef import_table table
    cdef uint32_t index
    for number in range(3 if trial else 2):
        table = _table(number)
        for index in range(table.count):
            row = &table.rows[index]
            found[row.module.decode(), row.name.decode()] = Import(
                _signature(row), _served_by(row), row.park != NULL or row.reenters,
                bool(row.reenters))
    return found


def host_imports(*, bint trial=False):
    """What guests may import: {(module, name): (signature, served)}."""
    return {name: (known.signature, known.served_by != "not yet")
            for name, known in describe_imports(trial=trial).items()}


class Import:
    """What the host says of one import; see engine.pyi."""

    __slots__ = ("reenters", "served_by", "signature", "waits")

    def __init__(self, signature, served_by, waits, reenters):
        self.signature, self.served_by = signature, served_by
        self.waits, self.reenters = waits, reenters


cdef dict _IMPORTS = {trial: describe_imports(trial=trial) for trial in (False, True)}


cdef wasm_functype_t *_functype(const import_row *row):
    cdef wasm_valtype_vec_t sides[2]
    cdef wasm_valtype_t *types[16]
    cdef const char *letters
    cdef size_t count
    for side in range(2):
        letters = row.params if side == 0 else row.results
        count = 0
        while letters[count] != 0:
            types[count] = wasm_valtype_new(
                WASMTIME_KIND_I32 if letters[count] == c"i" else WASMTIME_KIND_I64)
            count += 1
        wasm_valtype_vec_new(&sides[side], count, types)
    return wasm_functype_new(&sides[0], &sides[1])


cdef int _link(wasmtime_linker_t *linker, import_table table) except -1:
    cdef uint32_t index
    cdef const import_row *row
    cdef wasm_functype_t *type
    cdef wasmtime_error_t *error
    for index in range(table.count):
        row = &table.rows[index]
        type = _functype(row)
        module, name = row.module, row.name
        if row.park != NULL:
            error = wasmtime_linker_define_async_func(
                linker, row.module, len(module), row.name, len(name), type, row.park, row.env, NULL)
        else:
            error = wasmtime_linker_define_func_unchecked(
                linker, row.module, len(module), row.name, len(name), type, row.call, row.env, NULL)
        wasm_functype_delete(type)
        if error != NULL:
            raise AssertionError(_take_error(error))
    return 0


cdef wasmtime_linker_t *_new_linker(wasm_engine_t *engine, bint trial) except NULL:
    cdef wasmtime_linker_t *linker = wasmtime_linker_new(engine)
    for number in range(3 if trial else 2):
        _link(linker, _table(number))
    cdef wasmtime_error_t *error = inner_wait_link(linker)
    if error != NULL:
        raise AssertionError(_take_error(error))
    return linker


cdef const import_row *_reentering(declared, bint trial) except? NULL:
    """The row of the module's import that calls its tools; NULL if it has none."""
    cdef import_table table
    cdef uint32_t index
    names = {(item.module, item.name) for item in declared.imports}
    for number in range(3 if trial else 2):
        table = _table(number)
        for index in range(table.count):
            row = &table.rows[index]
            if row.reenters and (row.module.decode(), row.name.decode()) in names:
                return row
    return NULL


# ---- what a module declares

def check_imports(declared, *, trial=False):
    """Raises ModuleInvalid that names every import the host does not have, or has otherwise (of a
    great many the first ones)."""
    unknown, wrong = [], []
    for item in declared.imports:
        known = _IMPORTS[trial].get((item.module, item.name))
        if known is None or item.kind != "func":
            unknown.append(f"{item.module}.{item.name} ({item.kind})")
        elif item.signature != known.signature:
            wrong.append(f"{item.module}.{item.name} as {item.signature}, here {known.signature}")
    if unknown:
        raise ModuleInvalid(
            f"the module imports what this host does not have: {wasmfile.listed(unknown)}; modules "
            "'spear' and 'wasi_snapshot_preview1' are served")
    if wrong:
        raise ModuleInvalid(
            f"the module imports with another signature: {wasmfile.listed(wrong, '; ')}")


def check_reentry(declared, *, trial=False):
    """Raises ModuleInvalid where more than one import would call the module's own tools."""
    sends = sorted({f"{item.module}.{item.name}" for item in declared.imports
                    if _IMPORTS[trial][item.module, item.name].reenters})
    if len(sends) > 1:
        raise ModuleInvalid(
            f"the module imports {' and '.join(sends)}, which both call its tools; one such import "
            "per module is served")


def check_shape(declared):
    """Raises ModuleInvalid or ModuleLimit where a module has more memories, tables or table than
    served."""
    if len(declared.memories) > 1:
        raise ModuleInvalid(
            f"the module has {len(declared.memories)} memories; one memory per module is served")
    if len(declared.tables) > TABLES_MAX:
        raise ModuleLimit(
            f"the module has {len(declared.tables)} tables, the limit is {TABLES_MAX}")
    for minimum, _ in declared.tables:
        if minimum > TABLE_ELEMENTS_MAX:
            raise ModuleLimit(
                f"the module's table begins with {minimum} elements, "
                f"the limit is {TABLE_ELEMENTS_MAX}")


@cython.no_gc_clear
cdef class Module:
    """A compiled and linked module; immutable, made by `Engine.load`, safe to share."""

    def __init__(self):
        raise TypeError("Module objects are made by Engine.load")

    def __dealloc__(self):
        if self.generation != engineapi.generation():
            return                 # a forked child leaves all to its parent
        if self.pre != NULL:
            wasmtime_instance_pre_delete(self.pre)
        if self.native != NULL:
            wasmtime_module_delete(self.native)

    def __repr__(self):
        return f"<Module {self.digest[:12]} {self.shape}>"


cdef uint64_t _described = 0           # modules, with the GIL held


cdef Module _describe(declared, digest, trial):
    global _described
    cdef Module module = Module.__new__(Module)
    _described += 1
    module.generation, module.number = engineapi.generation(), _described
    module.digest, module.shape = digest, declared.shape
    module.memory_min_bytes, module.memory_max_bytes = 0, None
    for minimum, maximum, _ in declared.memories:
        module.memory_min_bytes = minimum * wasmfile.PAGE_BYTES
        module.memory_max_bytes = None if maximum is None else maximum * wasmfile.PAGE_BYTES
    module.table_min_elements = max((minimum for minimum, _ in declared.tables), default=0)
    module.signatures = {
        name: signature for name, kind, signature in declared.exports if kind == "func"}
    module.exports = tuple(module.signatures)
    module.exports_memory = any(
        kind == "memory" and name == "memory" for name, kind, _ in declared.exports)
    known = [(item.name, _IMPORTS[trial][item.module, item.name]) for item in declared.imports]
    module.unserved = tuple(name for name, row in known if row.served_by == "not yet")
    module.waiting = tuple(name for name, row in known if row.waits)
    module.posted = tuple(name for name, row in known if row.served_by == "python")
    module.uses_objects = any(
        item.module == "spear" and item.name.startswith("object_") for item in declared.imports)
    module.puts_objects = ("spear", "object_put") in {
        (item.module, item.name) for item in declared.imports}
    module.self_contained = not module.posted and not module.uses_objects
    return module


cdef class Engine:
    """One engine and its linker. `slots`: how many guests may live at once. With `metered` its
    code counts fuel and gives the same results on every machine, for a few per cent of its speed.

    The first `load` makes the native part. Guests of forked children are refused. `trial` is for
    tests and benchmarks: it also links module `spear_trial` (trial.pyx).
    """

    def __cinit__(self, *, int slots=1000, bint metered=False, compiler=None, bint trial=False):
        if not 1 <= slots <= 24_000:
            raise ValueError(f"slots={slots}: 1 to 24000, so that 4 GiB for each can be reserved")
        self.slots, self.metered, self.trial = slots, metered, trial
        self.generation = engineapi.generation()
        self.lock, self.compiler = allocate_lock(), compiler or Compiler()

    def __dealloc__(self):
        if self.generation != engineapi.generation():
            return
        for shim in self.shims:
            if shim != NULL:
                shim_free(shim)
        if self.linker != NULL:
            wasmtime_linker_delete(self.linker)
        if self.native != NULL:
            wasm_engine_delete(self.native)
        if self.memories != NULL:
            gm_pool_release(<gm_pool *>self.memories)

    cdef int _make(self) except -1:
        """The native engine, once."""
        with self.lock:
            if self.native == NULL:
                self.memories = _new_pool(self.slots)
                self.native = _new_engine(<gm_pool *>self.memories, self.metered)
                self.linker = _new_linker(self.native, self.trial)
        return 0

    cdef int _attach_shim(self, Module module, declared) except -1:
        """A module that imports a send is linked anew for each guest; see shim.pyx."""
        cdef wasmtime_error_t *error = NULL
        cdef const import_row *row = _reentering(declared, self.trial)
        if row == NULL:
            return 0
        cdef int at = 0
        with self.lock:
            while self.shims[at] != NULL and self.shims[at].row != row.posted:
                at += 1
            if self.shims[at] == NULL:
                self.shims[at] = shim_new(
                    self.native, _new_linker(self.native, self.trial), row.posted, &error)
        if error != NULL:
            raise AssertionError(_take_error(error))
        module.shim = self.shims[at]
        return 0

    def load(self, wasm, *, cache_dir=None):
        """Compiles `wasm` (bytes), or takes it from `cache_dir`; see engine.pyi for the errors."""
        if self.generation != engineapi.generation():
            raise EngineUnavailable("this engine was made before a fork: make one in the child")
        try:
            wasm = bytes(memoryview(wasm))
        except TypeError:
            raise InvalidArgument(
                f"a module is given as bytes, found {type(wasm).__name__}") from None
        declared = wasmfile.scan(wasm)
        check_imports(declared, trial=self.trial)
        check_reentry(declared, trial=self.trial)
        check_shape(declared)
        self._make()
        digest = aotcache.digest_of(wasm)
        cdef Module module = _describe(declared, digest, self.trial)
        module.engine, module.native_engine, module.linker = self, self.native, self.linker
        module.metered = self.metered
        # Its code runs then, or the engine takes it for one that may wait, or it takes long.
        module.fiber_first = (
            declared.has_start or bool(module.waiting) or len(wasm) > PLACE_BYTES_MAX)
        self._obtain(module, wasm, cache_dir)
        cdef wasmtime_error_t *error = wasmtime_linker_instantiate_pre(
            self.linker, module.native, &module.pre)
        if error != NULL:
            raise ModuleInvalid(f"the module does not link: {_take_error(error)}")
        self._attach_shim(module, declared)
        return module

    cdef int _obtain(self, Module module, bytes wasm, cache_dir) except -1:
        """Compiled code from the cache if it can be trusted, else compiled and stored there."""
        module.source, module.warning = "compiled", ""
        if cache_dir is None:
            self._compile(module, wasm)
            return 0
        settings = SETTINGS + " metered" * self.metered + " trial" * self.trial
        name = aotcache.entry_name(module.digest, library()[0], settings)
        handle, module.warning = aotcache.find(cache_dir, name)
        if handle is not None:
            try:
                if self._deserialize(module, f"/proc/self/fd/{handle}", f"{cache_dir}/{name}"):
                    module.source = "cache"
                    return 0
            finally:
                os.close(handle)
        code = self._compile(module, wasm)
        if aotcache.is_usable(cache_dir):
            module.warning = aotcache.store(cache_dir, name, code) or module.warning
        return 0

    cdef bytes _compile(self, Module module, bytes wasm):
        """The code, of which `module` is made as well. It is copied, so nothing maps a file."""
        cdef bytes code = self.compiler.compile(library()[1], wasm, metered=bool(self.metered))
        cdef const uint8_t *data = code
        cdef size_t size = len(code)
        cdef wasmtime_error_t *error
        with nogil:
            error = wasmtime_module_deserialize(self.native, data, size, &module.native)
        if error != NULL:
            raise EngineUnavailable(f"the compiled code was not taken: {_take_error(error)}")
        return code

    cdef bint _deserialize(self, Module module, path, shown) except -1:
        cdef bytes encoded = os.fsencode(path)
        cdef wasmtime_error_t *error = wasmtime_module_deserialize_file(
            self.native, encoded, &module.native)
        if error != NULL:
            module.warning = f"the cached code {shown} was not taken: {_take_error(error)}"
            return False
        return True

    def stats(self):
        """Memories and stacks of guests: made, idle, resident bytes; how they are cleaned."""
        if self.memories == NULL:
            return {}
        cdef gm_stats stats
        gm_pool_stats(<gm_pool *>self.memories, &stats)
        cleaning = {GM_CLEAN_SCAN: "scan", GM_CLEAN_READ: "pagemap", GM_CLEAN_DROP: "drop"}
        return {
            "memories_made": stats.memories_made, "memories_idle": stats.memories_idle,
            "stacks_made": stats.stacks_made, "stacks_idle": stats.stacks_idle,
            "idle_bytes": stats.idle_bytes, "cleaned": stats.zeroed, "dropped": stats.dropped,
            "cleaning": cleaning[gm_pool_clean(<gm_pool *>self.memories)],
        }

    def trim(self):
        """Gives the pages of idle guests' memories and stacks back to the system."""
        if self.memories != NULL:
            with nogil:
                gm_pool_trim(<gm_pool *>self.memories)


cdef gm_pool *_new_pool(int slots) except NULL:
    cdef gm_options options
    cdef char why[200]
    cdef gm_pool *pool
    memset(&options, 0, sizeof(options))
    options.memories_max = options.stacks_max = slots
    options.stack_bytes = FIBER_STACK_BYTES
    why[0] = 0
    pool = gm_pool_new(&options, why, sizeof(why))
    if pool == NULL:
        raise EngineUnavailable(f"no room for the memories of guests: {why.decode()}")
    return pool


cdef wasm_engine_t *_new_engine(gm_pool *memories, bint metered) except NULL:
    cdef wasm_config_t *config = wasm_config_new()
    wasm_settings_apply(config, metered)
    cdef gm_wasmtime api
    api.error_new = <void *>wasmtime_error_new
    api.host_memory_creator_set = <void *>wasmtime_config_host_memory_creator_set
    api.host_stack_creator_set = <void *>wasmtime_config_host_stack_creator_set
    api.memory_init_cow_set = <void *>wasmtime_config_memory_init_cow_set
    gm_install(memories, config, &api)
    cdef wasm_engine_t *engine = wasm_engine_new_with_config(config)
    if engine == NULL:
        raise EngineUnavailable("the engine refused its settings on this machine")
    return engine
