"""Every setting: its key, unit, default and limits, and where its value came from.

The rule: defaults < file < environment < flags, key by key; read once, at start. SETTINGS is the
one list. A key this build does not serve is refused with the reason, an unknown one with the
nearest known name: nothing is accepted that does nothing; who only looks collects the refusals and
goes on. Only exact environment names are looked up, since orchestrators invent others that begin
alike.
"""

from __future__ import annotations

import os

from spear.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_BYTES = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_ROOT = "spearlet"


def parse_duration_ns(value: object) -> int:
    """Nanoseconds of `250ms`, `5s`, `2m`, `1h`, `7d` or a bare number of seconds."""
    return _parse_quantity(value, _NS, 10**9, "a duration such as 250ms, 5s, 2m or 1h")


def parse_size(value: object) -> int:
    """Bytes of `64KiB`, `16MiB`, `1GiB` or a bare number of bytes."""
    return _parse_quantity(value, _BYTES, 1, "a size such as 64KiB, 16MiB or 1GiB")


def parse_count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidArgument(f"expected a whole number, found {value!r}")


def parse_text(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise InvalidArgument(f"expected a text that is not empty, found {value!r}")


def _parse_quantity(value: object, units: dict[str, int], bare: int, wanted: str) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = repr(value)
    elif isinstance(value, str):
        text = value.strip()
    else:
        raise InvalidArgument(f"expected {wanted}, found {value!r}")
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = units.get(text[len(number) :].lower()) if len(number) < len(text) else bare
    whole, _, part = number.strip().removeprefix("-").partition(".")
    if unit is None or not _digits(whole) or not (_digits(part) or part == ""):
        raise InvalidArgument(f"expected {wanted}, found {value!r}")
    amount = int(whole + part) * unit // int("1" + "0" * len(part))
    return -amount if number.startswith("-") else amount


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 30


def format_duration(ns: int) -> str:
    """The shortest text that `parse_duration_ns` reads back."""
    for unit in ("d", "h", "m", "s"):
        if ns and ns % _NS[unit] == 0:
            return f"{ns // _NS[unit]}{unit}"
    if ns % _NS["ms"] == 0:
        return f"{ns // _NS['ms']}ms"
    return f"{ns // _NS['s']}.{ns % _NS['s']:09}s"


def format_size(count: int) -> str:
    """The shortest text that `parse_size` reads back."""
    for name, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % unit == 0:
            return f"{count // unit}{name}"
    return str(count)


def show_size(count: int) -> str:
    """The size as a person reads it, to a tenth: `125 MiB`, `3.3 KiB`, `126 bytes`."""
    for name, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count} byte{'' if count == 1 else 's'}"


_KINDS: dict[str, tuple[Callable[[object], Any], Callable[[Any], str]]] = {
    "duration": (parse_duration_ns, format_duration),
    "size": (parse_size, format_size),
    "count": (parse_count, str),
    "text": (parse_text, str),
}


class Setting:
    """One key. `attribute` is its name on Config, in the unit of the value there."""

    __slots__ = ("attribute", "default", "environment", "high", "key", "kind", "low", "summary")

    def __init__(
        self, key: str, attribute: str, kind: str, default: str, limits: tuple[str, str] | None,
        environment: str, summary: str,
    ) -> None:  # fmt: skip
        self.key, self.attribute, self.kind, self.default = key, attribute, kind, default
        self.low, self.high = limits or ("", "")
        self.environment, self.summary = environment, summary

    def parse(self, value: object) -> Any:
        """The value in this setting's unit. Raises InvalidArgument naming what is accepted."""
        read = _KINDS[self.kind][0]
        found = read(value)
        if self.low and not read(self.low) <= found <= read(self.high):
            raise InvalidArgument(f"expected {self.low} to {self.high}, found {value}")
        return found

    def format(self, value: Any) -> str:
        return "off" if value is None else _KINDS[self.kind][1](value)


_EXECUTION = ("1ms", "365d")
SETTINGS = (
    Setting("node_name", "node_name", "text", "", None, "SPEARLET_NODE_NAME",
            "name of this node, shown in every record; the host's name unless set"),
    Setting("cache_dir", "cache_dir", "text", "", None, "SPEAR_CACHE_DIR",
            "where compiled modules are kept, or `off`; readable by its owner only"),
    Setting("executor.workers", "workers", "count", "0", ("0", "256"),
            "SPEARLET_EXECUTOR_WORKERS", "native threads that run guests; 0: one a core"),
    Setting("executor.max_parked", "guests_max", "count", "1000", ("1", "20000"),
            "SPEARLET_EXECUTOR_MAX_PARKED", "guests that may live at once, waiting ones included"),
    Setting("limits.timeout", "timeout_ns", "duration", "60s", _EXECUTION,
            "SPEARLET_LIMITS_TIMEOUT", "wall time of an execution that is waited for"),
    Setting("limits.async_timeout", "async_timeout_ns", "duration", "10m", _EXECUTION,
            "SPEARLET_LIMITS_ASYNC_TIMEOUT", "wall time of an execution started without waiting"),
    Setting("limits.memory", "memory_bytes_max", "size", "64MiB", ("64KiB", "4GiB"),
            "SPEARLET_LIMITS_MEMORY", "linear memory of a guest"),
    Setting("limits.input", "input_bytes_max", "size", "64MiB", ("0", "1GiB"),
            "SPEARLET_LIMITS_INPUT", "input of an execution; more is refused"),
    Setting("limits.output", "output_bytes_max", "size", "16MiB", ("0", "1GiB"),
            "SPEARLET_LIMITS_OUTPUT", "output of an execution; a guest that writes more is ended"),
    Setting("limits.log", "log_bytes_max", "size", "10MiB", ("0", "1GiB"),
            "SPEARLET_LIMITS_LOG", "log of an execution; the rest is cut off with a mark"),
    Setting("limits.descriptors", "descriptors_max", "count", "1024", ("16", "65536"),
            "SPEARLET_LIMITS_DESCRIPTORS", "files and other things a guest has open at once"),
    Setting("limits.module", "module_bytes_max", "size", "256MiB", ("8", "1GiB"),
            "SPEARLET_LIMITS_MODULE", "size of a wasm module"),
    Setting("compile.timeout", "compile_ns_max", "duration", "30s", ("10ms", "1h"),
            "SPEARLET_COMPILE_TIMEOUT", "wall time of a module's compile"),
    Setting("compile.memory", "compile_bytes_max", "size", "1GiB", ("64MiB", "64GiB"),
            "SPEARLET_COMPILE_MEMORY", "memory of a module's compile"),
    Setting("artifacts.size", "artifact_bytes_max", "size", "256MiB", ("1MiB", "64GiB"),
            "SPEARLET_ARTIFACTS_SIZE", "modules kept ready; the least recently used go first"),
    Setting("objects.size", "object_bytes_max", "size", "256MiB", ("64KiB", "4096GiB"),
            "SPEARLET_OBJECTS_SIZE", "objects that guests share; the least recently used go first"),
    Setting("history.count", "history_count_max", "count", "10000", ("0", "1000000"),
            "SPEARLET_HISTORY_COUNT", "ended executions that are remembered"),
    Setting("history.size", "history_bytes_max", "size", "64MiB", ("0", "64GiB"),
            "SPEARLET_HISTORY_SIZE", "outputs of ended executions that are remembered"),
    Setting("history.retention", "history_ns_max", "duration", "1h", ("0", "365d"),
            "SPEARLET_HISTORY_RETENTION", "how long an ended execution is remembered"),
)  # fmt: skip
_BY_KEY = {setting.key: setting for setting in SETTINGS}

_DAEMON = "there is no daemon in this build"
_MODELS = "there are no model backends in this build"
# Keys of existing deployments that this build does not serve: key -> (environment, reason).
UNSERVED: dict[str, tuple[str, str]] = {
    "grpc.addr": ("SPEARLET_GRPC_ADDR", _DAEMON),
    "grpc.enable_tls": ("SPEARLET_GRPC_ENABLE_TLS", _DAEMON),
    "grpc.cert_path": ("SPEARLET_GRPC_TLS_CERT_PATH", _DAEMON),
    "grpc.key_path": ("SPEARLET_GRPC_TLS_KEY_PATH", _DAEMON),
    "grpc.client_ca_path": ("SPEARLET_GRPC_TLS_CLIENT_CA_PATH", _DAEMON),
    "http.server.addr": ("SPEARLET_HTTP_ADDR", _DAEMON),
    "socket": ("SPEARLET_SOCKET", _DAEMON),
    "storage.backend": ("SPEARLET_STORAGE_BACKEND", "this build keeps everything in memory"),
    "storage.data_dir": ("SPEARLET_STORAGE_DATA_DIR", "this build keeps everything in memory"),
    "storage.max_cache_size_mb": (
        "SPEARLET_STORAGE_MAX_CACHE_SIZE_MB", "this build keeps everything in memory",
    ),
    "storage.max_object_size": (
        "SPEARLET_STORAGE_MAX_OBJECT_SIZE", "objects are bounded by objects.size, all together",
    ),
    "sms_grpc_addr": ("SPEARLET_SMS_GRPC_ADDR", "this build runs alone, without a cluster"),
    "sms_http_addr": ("SPEARLET_SMS_HTTP_ADDR", "this build runs alone, without a cluster"),
    "auto_register": ("SPEARLET_AUTO_REGISTER", "this build runs alone, without a cluster"),
    "advertise": ("SPEARLET_ADVERTISE_IP", _DAEMON),
    "auth.loopback": ("SPEARLET_AUTH_LOOPBACK", _DAEMON),
    "auth.token_file": ("SPEARLET_AUTH_TOKEN_FILE", _DAEMON),
    "heartbeat_interval": ("SPEARLET_HEARTBEAT_INTERVAL", "this build runs alone"),
    "logging.level": ("SPEARLET_LOG_LEVEL", "only guests log in this build, and all is shown"),
    "logging.format": ("SPEARLET_LOG_FORMAT", "only guests log in this build"),
    "logging.file": ("SPEARLET_LOG_FILE", "only guests log in this build"),
    "llm": ("", _MODELS),
    "audio.device": ("SPEARLET_AUDIO_DEVICE", "there is no audio in this build"),
    "mcp": ("", "there is no MCP in this build"),
}  # fmt: skip


class Refusal:
    """What a file or the environment says and is not taken: `reason` is a whole sentence."""

    __slots__ = ("key", "reason", "source")

    def __init__(self, key: str, source: str, reason: str) -> None:
        self.key, self.source, self.reason = key, source, reason


class Config:
    """The effective values, one attribute a setting, and for each key where it came from."""

    node_name: str
    cache_dir: str | None  # None: no cache
    workers: int
    guests_max: int
    timeout_ns: int
    async_timeout_ns: int
    memory_bytes_max: int
    input_bytes_max: int
    output_bytes_max: int
    log_bytes_max: int
    descriptors_max: int
    module_bytes_max: int
    compile_ns_max: int
    compile_bytes_max: int
    artifact_bytes_max: int
    object_bytes_max: int
    history_count_max: int
    history_bytes_max: int
    history_ns_max: int
    sources: dict[str, str]

    def __init__(self) -> None:
        self.sources = {}

    def set(self, key: str, value: object, source: str) -> None:
        """Gives `key` a value that is stronger than those before. Raises InvalidArgument."""
        setting = _BY_KEY.get(key) or _refuse(key, source)
        try:
            found = setting.parse(value)
        except InvalidArgument as error:
            raise InvalidArgument(f"{_named(key, source)}: {error}") from None
        setattr(self, setting.attribute, found)
        self.sources[key] = source

    def number(self, key: str, value: object = None) -> int:
        """The value given for one call, within the key's limits, or the configured one."""
        setting = _BY_KEY[key]
        if value is None:
            found: int = getattr(self, setting.attribute)
            return found
        try:
            return int(setting.parse(value))
        except InvalidArgument as error:
            raise InvalidArgument(f"{key.rpartition('.')[2]}: {error}") from None

    def text(self, key: str) -> str:
        """The configured value as it is written."""
        return _BY_KEY[key].format(getattr(self, _BY_KEY[key].attribute))

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(key, value, source, summary) of every setting, in the order of the list."""
        return [
            (setting.key, self.text(setting.key), self.sources[setting.key], setting.summary)
            for setting in SETTINGS
        ]


def load(
    path: str | None = None,
    *,
    flags: Mapping[str, tuple[str, object]] | None = None,
    defaults: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    refusals: list[Refusal] | None = None,
) -> Config:
    """Reads all sources. `flags` maps a key to (the flag's name, its value); `defaults` are those
    that depend on the machine (`node_name`). What a file or the environment says wrongly goes to
    `refusals` where given, else it is raised. Raises InvalidArgument, NotFound (no such file)."""
    environ = os.environ if environ is None else environ
    config = Config()
    for setting in SETTINGS:
        start = (defaults or {}).get(setting.key) or setting.default or _default(setting, environ)
        config.set(setting.key, start, "default")
    for key, value, source in (*_read_file(path, environ), *_read_environment(environ)):
        _take(config, key, value, source, refusals)
    for key, (flag, value) in (flags or {}).items():
        config.set(key, value, f"flag {flag}")
    if config.cache_dir == "off":
        config.cache_dir = None
    elif config.cache_dir and not os.path.isabs(config.cache_dir):
        config.cache_dir = os.path.abspath(config.cache_dir)
    return config


def _take(
    config: Config, key: str, value: object, source: str, refusals: list[Refusal] | None
) -> None:
    try:
        config.set(key, value, source)
    except InvalidArgument as error:
        if refusals is None:
            raise
        refusals.append(Refusal(key, source, str(error)))


def _default(setting: Setting, environ: Mapping[str, str]) -> str:
    return _cache_dir(environ) if setting.key == "cache_dir" else "localhost"


def _cache_dir(environ: Mapping[str, str]) -> str:
    """By the XDG base directory specification, where a relative path counts as unset."""
    base = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return os.path.join(base, "spear")
    home = _home(environ)
    return os.path.join(home, ".cache", "spear") if home else "off"


def _home(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    return home if os.path.isabs(home) else ""


def file_path(path: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The file that is read: the one asked for, else that of $SPEAR_HOME, else of ~/.spear; ""
    where there is no home."""
    environ = os.environ if environ is None else environ
    home = _home(environ)
    folder = environ.get("SPEAR_HOME") or (home and os.path.join(home, ".spear"))
    return path or (folder and os.path.join(folder, "config.toml"))


def _read_file(path: str | None, environ: Mapping[str, str]) -> list[tuple[str, object, str]]:
    """(key, value, source) of all that the file says."""
    name = file_path(path, environ)
    if not name:
        return []
    try:
        with open(name, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        if path is None:
            return []
        raise NotFound(f"no configuration file {name!r}") from error
    except OSError as error:
        raise InvalidArgument(f"cannot read {name!r}: {error.strerror}") from error
    found = _flat(_parse_file(name, content), name)
    return [(key, value, f"file {name}") for key, value in found]


def _parse_file(name: str, content: bytes) -> dict[str, object]:
    import tomllib  # costs more than all of a start without a file

    try:
        tree = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{name!r} is not TOML: {error}") from error
    for key in tree:
        if key != _ROOT:
            raise InvalidArgument(f"unknown key {key!r} in {name!r}: expected a table [{_ROOT}]")
    root = tree.get(_ROOT, {})
    if not isinstance(root, dict):
        raise InvalidArgument(f"[{_ROOT}] in {name!r}: expected a table, found {root!r}")
    return root


def _flat(table: dict[str, object], name: str, prefix: str = "") -> list[tuple[str, object]]:
    """The table's values by dotted key; parts that are not served stay whole."""
    found: list[tuple[str, object]] = []
    for part, value in table.items():
        key = prefix + part
        if isinstance(value, dict) and value and key not in UNSERVED and key not in _BY_KEY:
            found += _flat(value, name, key + ".")
        else:
            found.append((key, value))
    return found


def _read_environment(environ: Mapping[str, str]) -> list[tuple[str, object, str]]:
    """(key, value, source) of every variable that is set, the unserved ones included."""
    names = [(setting.key, setting.environment) for setting in SETTINGS]
    names += [(key, name) for key, (name, _) in UNSERVED.items() if name]
    return [(key, environ[name], f"environment {name}") for key, name in names if environ.get(name)]


def _named(key: str, source: str) -> str:
    """How a sentence calls it: a flag by its own name, all else by key and source."""
    return source.removeprefix("flag ") if source.startswith("flag ") else f"{key} ({source})"


def _refuse(key: str, source: str) -> Setting:
    """Raises for a key that is not in SETTINGS; typed so that it can stand for one."""
    known = key if key in UNSERVED else key.partition(".")[0]
    if known in UNSERVED:
        raise InvalidArgument(f"{key} ({source}) is not served: {UNSERVED[known][1]}")
    import difflib

    nearest = difflib.get_close_matches(key, [*_BY_KEY, *UNSERVED], 1, cutoff=0.6)
    near = f"the nearest known one is {nearest[0]!r}" if nearest else f"known: {', '.join(_BY_KEY)}"
    raise InvalidArgument(f"unknown key {key!r} ({source}): {near}")
