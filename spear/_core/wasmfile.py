"""Reads what a wasm binary says about itself, without compiling or running it.

The rule: bytes in, a WasmFile or ModuleInvalid out; nothing else is raised, nothing is allocated
from a length that the bytes themselves do not back. Only the sections that name things are read
(types, imports, functions, tables, memories, exports, start, custom names); code and data are
stepped over, so the cost follows the number of imports and exports, not the size of the module.
Whether the code is valid is the engine's question. Source: WebAssembly Core Specification, 5.
"""

from __future__ import annotations

from spear.errors import ModuleInvalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE_BYTES = 65536
SMALL_MEMORY_BYTES_MAX = 1 << 20

_MAGIC = b"\0asm"
_KINDS = ("func", "table", "memory", "global", "tag")
_VALUE_TYPES = {
    0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128",
    0x70: "funcref", 0x6F: "externref", 0x69: "exnref",
}  # fmt: skip
_REFERENCES = (0x70, 0x6F, 0x69)
# Number of a section -> its name and its place; each stands at most once, in this order.
_SECTIONS = {
    1: ("type", 1), 2: ("import", 2), 3: ("function", 3), 4: ("table", 4), 5: ("memory", 5),
    13: ("tag", 6), 6: ("global", 7), 7: ("export", 8), 8: ("start", 9), 9: ("element", 10),
    12: ("data count", 11), 10: ("code", 12), 11: ("data", 13),
}  # fmt: skip
_SHOWN_MAX, _LISTED_MAX = 200, 64
_TYPES_MAX = 1_000_000  # as the engine: more of anything is refused before it is read


class Import:
    """What a module asks for: `signature` is "(i32, i64) -> i32" for functions."""

    __slots__ = ("kind", "module", "name", "signature")

    def __init__(self, module: str, name: str, kind: str, signature: str) -> None:
        self.module, self.name, self.kind, self.signature = module, name, kind, signature

    def __repr__(self) -> str:
        return f"Import({self.module}.{self.name}: {self.kind} {self.signature})"


class WasmFile:
    """What one core module declares; all names are the module's own.

    `memories` are (minimum pages, maximum pages or None, imported), `tables` (minimum, maximum or
    None), both with the imported ones first; `exports` are (name, kind, signature of a function or
    None); `names` tells whether a name section is present.
    """

    __slots__ = (
        "custom_sections", "exports", "function_count", "has_start", "imports", "memories",
        "names", "tables",
    )  # fmt: skip

    def __init__(self, scan: _Scan) -> None:
        self.imports = tuple(scan.imports)
        self.exports = tuple(scan.exports)
        self.memories = tuple(scan.memories)
        self.tables = tuple(scan.tables)
        self.custom_sections = tuple(scan.custom_sections)
        self.has_start = scan.has_start
        self.names = "name" in scan.custom_sections
        self.function_count = scan.function_count

    @property
    def memory_min_bytes(self) -> int:
        return max((low for low, _, _ in self.memories), default=0) * PAGE_BYTES

    @property
    def reactor(self) -> bool:
        """Whether it is a library that is initialized and then called, not a command."""
        functions = {name for name, kind, _ in self.exports if kind == "func"}
        return "_initialize" in functions and "_start" not in functions

    @property
    def shape(self) -> str:
        """ "small" where the memory's minimum is at most 1 MiB, else "large"."""
        return "small" if self.memory_min_bytes <= SMALL_MEMORY_BYTES_MAX else "large"


def scan(wasm: bytes) -> WasmFile:
    """Reads the declarations of a core module. Raises ModuleInvalid with the offset."""
    _check_header(wasm)
    found = _Scan(wasm)
    found.read_sections()
    return WasmFile(found)


def _check_header(wasm: bytes) -> None:
    if not wasm:
        raise ModuleInvalid("the module is empty: expected a wasm binary")
    if wasm[:4] != _MAGIC:
        raise ModuleInvalid(_not_wasm(wasm))
    if len(wasm) < 8:
        raise ModuleInvalid(f"the module is cut off at byte {len(wasm)}: expected its version")
    version, layer = wasm[4] | wasm[5] << 8, wasm[6] | wasm[7] << 8
    if layer == 1:
        raise ModuleInvalid(
            "this is a WebAssembly component, but a core module is expected: "
            "build for the target wasm32-wasip1"
        )
    if (version, layer) != (1, 0):
        raise ModuleInvalid(f"byte 4: expected wasm version 1, found {version} (layer {layer})")


def shortened(text: str) -> str:
    """A name of a module as errors show it: it may be as long as the module."""
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}... ({len(text)} characters)"


def listed(texts: Sequence[str], separator: str = ", ") -> str:
    """Names of a module as errors list them."""
    more = len(texts) - _LISTED_MAX
    shown = separator.join(map(shortened, texts[:_LISTED_MAX]))
    return f"{shown}{separator}and {more} more" if more > 0 else shown


def _not_wasm(wasm: bytes) -> str:
    if bytes(wasm[:64]).lstrip().startswith((b"(module", b"(component", b";;")):
        return "this is WebAssembly text, but a binary is expected: translate it with wat2wasm"
    return f"this is not wasm: expected it to begin with {_MAGIC!r}, found {bytes(wasm[:4])!r}"


class _Reader:
    """A place in the bytes and the end it may not pass."""

    __slots__ = ("data", "end", "pos", "where")

    def __init__(self, data: bytes) -> None:
        self.data, self.pos, self.end, self.where = data, 8, len(data), "module"

    def invalid(self, expected: str, at: int | None = None) -> ModuleInvalid:
        offset = self.pos if at is None else at
        return ModuleInvalid(f"byte {offset} ({self.where}): expected {expected}")

    def byte(self, expected: str) -> int:
        if self.pos >= self.end:
            raise self.invalid(f"{expected}, found the end")
        self.pos += 1
        return self.data[self.pos - 1]

    def u32(self, expected: str) -> int:
        """An unsigned LEB128 of at most 32 bits."""
        first = self.pos
        result = shift = 0
        while True:
            byte = self.byte(expected)
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                break
        if byte >= 0x80 or result > 0xFFFFFFFF:
            raise self.invalid(f"{expected} in at most 32 bits", first)
        return result

    def count(self, what: str) -> int:
        """How many entries follow; each takes at least a byte, so more is a lie."""
        first = self.pos
        found = self.u32(f"the number of {what}")
        if found > min(self.end - self.pos, _TYPES_MAX):
            room = min(self.end - self.pos, _TYPES_MAX)
            raise self.invalid(f"at most {room} {what}, found {found} announced", first)
        return found

    def take(self, what: str) -> bytes:
        """Bytes behind their length."""
        first = self.pos
        length = self.u32(f"the length of {what}")
        if length > self.end - self.pos:
            raise self.invalid(
                f"{what} of {length} bytes, found only {self.end - self.pos} left", first
            )
        self.pos += length
        return bytes(self.data[self.pos - length : self.pos])

    def name(self, what: str) -> str:
        first = self.pos
        try:
            return self.take(what).decode()
        except UnicodeDecodeError:
            raise self.invalid(f"{what} in UTF-8", first) from None

    def index(self, what: str, below: int) -> int:
        first = self.pos
        found = self.u32(f"the index of a {what}")
        if found >= below:
            raise self.invalid(f"the index of a {what} below {below}, found {found}", first)
        return found


class _Scan(_Reader):
    """One pass over a module's sections; every `_read_<section>` leaves `pos` at its end."""

    __slots__ = (
        "code_count", "counts", "custom_sections", "exports", "function_types", "has_start",
        "imports", "local_types", "memories", "tables", "types", "value_type_count",
    )  # fmt: skip

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.types: list[str] = []
        self.imports: list[Import] = []
        self.function_types: list[int] = []  # of the imported functions
        self.local_types: bytes | list[int] = b""
        self.exports: list[tuple[str, str, str | None]] = []
        self.memories: list[tuple[int, int | None, bool]] = []
        self.tables: list[tuple[int, int | None]] = []
        self.custom_sections: list[str] = []
        self.counts = {"global": 0, "tag": 0}
        self.code_count = self.value_type_count = 0
        self.has_start = False

    @property
    def function_count(self) -> int:
        return len(self.function_types) + len(self.local_types)

    def read_sections(self) -> None:
        place = 0
        while self.pos < len(self.data):
            self.where, self.end = "module", len(self.data)
            first = self.pos
            number = self.byte("the number of a section")
            name, rank = ("custom", place) if number == 0 else self._known(number, first)
            if number and rank <= place:
                raise self.invalid(f"no second or late section {name!r} here", first)
            place = rank
            self._read_section(name)
        if self.code_count != len(self.local_types):
            raise self.invalid(f"{len(self.local_types)} function bodies, found {self.code_count}")

    def _known(self, number: int, first: int) -> tuple[str, int]:
        if number not in _SECTIONS:
            raise self.invalid(f"the number of a section, found {number}", first)
        return _SECTIONS[number]

    def _read_section(self, name: str) -> None:
        first = self.pos
        size = self.u32(f"the size of section {name!r}")
        if size > self.end - self.pos:
            left = self.end - self.pos
            raise self.invalid(f"section {name!r} of {size} bytes, found only {left} left", first)
        self.end, self.where = self.pos + size, f"section {name!r}"
        read = _READERS.get(name)
        if read is None:
            self.pos = self.end
            return
        read(self)
        if self.pos != self.end:
            raise self.invalid(f"the end of the section, found {self.end - self.pos} bytes more")

    def _read_custom(self) -> None:
        if len(self.custom_sections) == _TYPES_MAX:
            raise self.invalid(f"at most {_TYPES_MAX} custom sections, found more")
        self.custom_sections.append(self.name("the name of a custom section"))
        self.pos = self.end

    def _read_types(self) -> None:
        for _ in range(self.count("types")):
            first = self.pos
            form = self.byte("a function type")
            if form != 0x60:
                raise self.invalid(
                    f"a function type (0x60), found 0x{form:02x}; types of the GC proposal "
                    "are not served",
                    first,
                )
            self.types.append(f"({self._value_types()}) -> {self._results()}")

    def _value_types(self) -> str:
        """Of one list; those of all lists are bounded too, since each is read here, in Python."""
        first, count = self.pos, self.count("value types")
        self.value_type_count += count
        if self.value_type_count > _TYPES_MAX:
            raise self.invalid(f"at most {_TYPES_MAX} value types in all types, found more", first)
        return ", ".join([self._value_type() for _ in range(count)])

    def _results(self) -> str:
        found = self._value_types()
        return found if found and "," not in found else f"({found})"

    def _value_type(self) -> str:
        first = self.pos
        found = self.byte("a value type")
        if found not in _VALUE_TYPES:
            raise self.invalid(f"a value type, found 0x{found:02x}", first)
        return _VALUE_TYPES[found]

    def _read_imports(self) -> None:
        for _ in range(self.count("imports")):
            module, name = self.name("an import's module"), self.name("an import's name")
            kind = self._kind()
            self.imports.append(Import(module, name, kind, self._import_type(kind)))

    def _kind(self) -> str:
        first = self.pos
        found = self.byte("a kind")
        if found >= len(_KINDS):
            raise self.invalid(f"a kind (0 to {len(_KINDS) - 1}), found {found}", first)
        return _KINDS[found]

    def _import_type(self, kind: str) -> str:
        if kind == "func":
            self.function_types.append(self.index("type", len(self.types)))
            return self.types[self.function_types[-1]]
        if kind == "table":
            return self._table()
        if kind == "memory":
            return self._memory(imported=True)
        self.counts[kind] += 1
        return self._tag() if kind == "tag" else self._global()

    def _global(self) -> str:
        kind = self._value_type()
        first = self.pos
        mutable = self.byte("a global's mutability")
        if mutable > 1:
            raise self.invalid(f"a mutability of 0 or 1, found {mutable}", first)
        return f"mut {kind}" if mutable else kind

    def _tag(self) -> str:
        first = self.pos
        attribute = self.byte("a tag's attribute")
        if attribute:
            raise self.invalid(f"a tag's attribute of 0, found {attribute}", first)
        return self.types[self.index("type", len(self.types))]

    def _table(self) -> str:
        first = self.pos
        kind = self.byte("a reference type")
        if kind not in _REFERENCES:
            raise self.invalid(f"a table of funcref or externref, found 0x{kind:02x}", first)
        low, high = self._limits("table")
        self.tables.append((low, high))
        return f"{_VALUE_TYPES[kind]} {_range(low, high)}"

    def _memory(self, *, imported: bool) -> str:
        first = self.pos
        low, high = self._limits("memory")
        if max(low, high or 0) > 65536:
            raise self.invalid(f"a memory of at most 65536 pages, found {_range(low, high)}", first)
        self.memories.append((low, high, imported))
        return f"{_range(low, high)} pages"

    def _limits(self, what: str) -> tuple[int, int | None]:
        first = self.pos
        flags = self.byte(f"the limits of a {what}")
        if flags & 2:
            raise self.invalid(f"a {what} of its own, found a shared one (threads)", first)
        if flags & 4:
            raise self.invalid(f"a 32-bit {what} (wasm32), found a 64-bit one", first)
        if flags > 1:
            raise self.invalid(f"limits of form 0 or 1, found {flags}", first)
        low = self.u32(f"the minimum of a {what}")
        high = self.u32(f"the maximum of a {what}") if flags else None
        if high is not None and high < low:
            raise self.invalid(f"a {what}'s maximum of at least {low}, found {high}", first)
        return low, high

    def _read_functions(self) -> None:
        count = self.count("functions")
        body = bytes(self.data[self.pos : self.end])
        if count == len(body) and count and max(body) < min(0x80, len(self.types)):
            self.local_types, self.pos = body, self.end  # each index is one byte: nearly always
            return
        self.local_types = [self.index("type", len(self.types)) for _ in range(count)]

    def _read_tables(self) -> None:
        for _ in range(self.count("tables")):
            self._table()

    def _read_memories(self) -> None:
        for _ in range(self.count("memories")):
            self._memory(imported=False)

    def _read_tags(self) -> None:
        for _ in range(self.count("tags")):
            self._tag()
            self.counts["tag"] += 1

    def _read_globals(self) -> None:
        self.counts["global"] += self.count("globals")
        self.pos = self.end  # their start values are code

    def _read_exports(self) -> None:
        below = {
            "func": self.function_count, "table": len(self.tables),
            "memory": len(self.memories), **self.counts,
        }  # fmt: skip
        for _ in range(self.count("exports")):
            name, kind = self.name("an export's name"), self._kind()
            index = self.index(kind, below[kind])
            self.exports.append((name, kind, self._signature(index) if kind == "func" else None))

    def _signature(self, index: int) -> str:
        imported = len(self.function_types)
        if index < imported:
            return self.types[self.function_types[index]]
        return self.types[self.local_types[index - imported]]

    def _read_start(self) -> None:
        self.index("func", self.function_count)
        self.has_start = True

    def _read_code(self) -> None:
        self.code_count = self.count("function bodies")
        self.pos = self.end


def _range(low: int, high: int | None) -> str:
    return f"min {low}" if high is None else f"min {low}, max {high}"


_READERS = {
    "custom": _Scan._read_custom,
    "type": _Scan._read_types,
    "import": _Scan._read_imports,
    "function": _Scan._read_functions,
    "table": _Scan._read_tables,
    "memory": _Scan._read_memories,
    "tag": _Scan._read_tags,
    "global": _Scan._read_globals,
    "export": _Scan._read_exports,
    "start": _Scan._read_start,
    "code": _Scan._read_code,
}
