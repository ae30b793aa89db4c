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
from spear.units import format_duration as format_duration
from spear.units import format_size as format_size
from spear.units import parse_address, parse_flag, parse_path, parse_text
from spear.units import parse_count as parse_count
from spear.units import parse_duration_ns as parse_duration_ns
from spear.units import parse_size as parse_size
from spear.units import show_size as show_size
from spear.units import split_address as split_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from spear.config_llm import LlmSettings

_ROOT = "spearlet"
_LLM = "llm"  # its tables are read by config_llm, which is imported where there are any


def _or_off(parse: Callable[[object], str]) -> Callable[[object], str | None]:
    return lambda value: None if value == "off" else parse(value)


_KINDS: dict[str, tuple[Callable[[object], Any], Callable[[Any], str]]] = {
    "duration": (parse_duration_ns, format_duration),
    "size": (parse_size, format_size),
    "count": (parse_count, str),
    "text": (parse_text, str),
    "path": (parse_path, str),  # made absolute once all is read
    "path or off": (_or_off(parse_path), str),
    "choice": (parse_text, str),  # of the words that stand as its limits
    "flag": (parse_flag, lambda value: str(value).lower()),
    "address": (parse_address, str),
    "address or off": (_or_off(parse_address), str),
}


class Setting:
    """One key. `attribute` is its name on Config, in the unit of the value there."""

    __slots__ = ("attribute", "default", "environment", "key", "kind", "limits", "summary")

    def __init__(
        self, key: str, attribute: str, kind: str, default: str, limits: tuple[str, ...] | None,
        environment: str, summary: str,
    ) -> None:  # fmt: skip
        self.key, self.attribute, self.kind, self.default = key, attribute, kind, default
        self.limits, self.environment, self.summary = limits or (), environment, summary

    def parse(self, value: object) -> Any:
        """The value in this setting's unit. Raises InvalidArgument naming what is accepted."""
        read = _KINDS[self.kind][0]
        found = read(value)
        if self.kind == "choice":
            if found not in self.limits:
                raise InvalidArgument(f"expected {' or '.join(self.limits)}, found {value}")
        elif self.limits and not read(self.limits[0]) <= found <= read(self.limits[1]):
            raise InvalidArgument(f"expected {self.limits[0]} to {self.limits[1]}, found {value}")
        return found

    def format(self, value: Any) -> str:
        return "off" if value is None else _KINDS[self.kind][1](value)


_EXECUTION = ("1ms", "365d")
SETTINGS = (
    Setting("node_name", "node_name", "text", "", None, "SPEARLET_NODE_NAME",
            "name of this node, shown in every record; the host's name unless set"),
    Setting("cache_dir", "cache_dir", "path or off", "", None, "SPEAR_CACHE_DIR",
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
            "SPEARLET_LIMITS_LOG", "log of an execution; a node counts 32 more a line"),
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
    Setting("objects.durable_size", "durable_bytes_max", "size", "1GiB", ("0", "4096GiB"),
            "SPEARLET_OBJECTS_DURABLE_SIZE", "objects put durably, 1 KiB more each; 0: none"),
    Setting("history.count", "history_count_max", "count", "10000", ("0", "1000000"),
            "SPEARLET_HISTORY_COUNT", "ended calls remembered, beside as many submitted or keyed"),
    Setting("history.size", "history_bytes_max", "size", "256MiB", ("0", "4096GiB"),
            "SPEARLET_HISTORY_SIZE", "what ended calls take, results and (on a node) records"),
    Setting("history.retention", "history_ns_max", "duration", "1h", ("0", "365d"),
            "SPEARLET_HISTORY_RETENTION", "how long an ended call is remembered; 0: for seconds"),
    Setting("socket", "socket_path", "path", "spearlet.sock", None, "SPEARLET_SOCKET",
            "the daemon's Unix socket; `spearlet.sock` in the data directory unless set"),
    Setting("grpc.addr", "grpc_address", "address", "127.0.0.1:50052", None, "SPEARLET_GRPC_ADDR",
            "where the daemon serves gRPC; off loopback only with TLS"),
    Setting("grpc.enable_tls", "grpc_tls", "flag", "false", None, "SPEARLET_GRPC_ENABLE_TLS",
            "whether gRPC is served over TLS"),
    Setting("grpc.cert_path", "cert_path", "path or off", "off", None,
            "SPEARLET_GRPC_TLS_CERT_PATH", "the certificates shown to TLS clients (PEM)"),
    Setting("grpc.key_path", "key_path", "path or off", "off", None, "SPEARLET_GRPC_TLS_KEY_PATH",
            "the certificate's private key (PEM), closed to others"),
    Setting("grpc.client_ca_path", "client_ca_path", "path or off", "off", None,
            "SPEARLET_GRPC_TLS_CLIENT_CA_PATH", "who signs client certificates; off: none wanted"),
    Setting("frames.addr", "frames_address", "address or off", "off", None, "SPEARLET_FRAMES_ADDR",
            "a loopback address where frames are served beside the socket, or `off`"),
    Setting("auth.loopback", "auth_loopback", "choice", "token", ("token", "open"),
            "SPEARLET_AUTH_LOOPBACK", "whether loopback callers show the token, or nothing"),
    Setting("auth.token_file", "token_path", "path", "token", None, "SPEARLET_AUTH_TOKEN_FILE",
            "the node's token; `token` in the data directory unless set"),
    Setting("storage.backend", "storage_backend", "choice", "rocksdb", ("rocksdb", "memory"),
            "SPEARLET_STORAGE_BACKEND", "where the daemon keeps its records"),
    Setting("storage.data_dir", "data_dir", "path", "", None, "SPEARLET_STORAGE_DATA_DIR",
            "everything the daemon keeps; readable by its owner only, one daemon at a time"),
    Setting("storage.max_cache_size_mb", "kv_cache_mb", "count", "512", ("1", "1048576"),
            "SPEARLET_STORAGE_MAX_CACHE_SIZE_MB", "MiB of records the database keeps in memory"),
    Setting("storage.max_object_size", "one_object_bytes_max", "size", "64MiB", ("1", "64GiB"),
            "SPEARLET_STORAGE_MAX_OBJECT_SIZE", "size of one object that a client puts"),
    Setting("queue.node", "queue_max", "count", "10000", ("1", "1000000"),
            "SPEARLET_QUEUE_NODE", "executions that wait on the node; more are refused"),
    Setting("queue.task", "task_queue_max", "count", "1000", ("1", "1000000"),
            "SPEARLET_QUEUE_TASK", "executions of one task that wait; more are refused"),
    Setting("agents.depth", "agents_depth", "count", "8", ("0", "64"),
            "SPEARLET_AGENTS_DEPTH", "how deep agents may call each other; 0: not at all"),
    Setting("agents.children", "agents_children_max", "count", "64", ("1", "10000"),
            "SPEARLET_AGENTS_CHILDREN", "calls that one agent may have under way at once"),
    Setting("logs.size", "logs_bytes_max", "size", "1GiB", ("1MiB", "4096GiB"),
            "SPEARLET_LOGS_SIZE", "logs of all executions that are kept; the oldest go first"),
    Setting("logs.task_size", "task_log_bytes_max", "size", "64MiB", ("8MiB", "4096GiB"),
            "SPEARLET_LOGS_TASK_SIZE", "of these, logs of one task; the oldest lines go first"),
    Setting("logs.retention", "logs_ns_max", "duration", "7d", ("0", "3650d"),
            "SPEARLET_LOGS_RETENTION", "how long the log of an execution is kept; 0: at any age"),
    Setting("logging.level", "log_level", "choice", "info",
            ("trace", "debug", "info", "warn", "error"),
            "SPEARLET_LOG_LEVEL", "what the daemon itself logs, and all that is graver"),
    Setting("logging.format", "log_format", "choice", "auto", ("auto", "json", "console"),
            "SPEARLET_LOG_FORMAT", "auto: console on a terminal, else JSON lines"),
    Setting("logging.file", "log_path", "path or off", "off", None, "SPEARLET_LOG_FILE",
            "where the daemon logs; off: stderr"),
)  # fmt: skip
_BY_KEY = {setting.key: setting for setting in SETTINGS}

_ALONE = "this build runs alone, without a cluster"
# Keys of existing deployments that this build does not serve: key -> (environment, reason).
UNSERVED: dict[str, tuple[str, str]] = {
    "http.server.addr": ("SPEARLET_HTTP_ADDR", "the HTTP surface comes later"),
    "sms_grpc_addr": ("SPEARLET_SMS_GRPC_ADDR", _ALONE),
    "sms_http_addr": ("SPEARLET_SMS_HTTP_ADDR", _ALONE),
    "auto_register": ("SPEARLET_AUTO_REGISTER", _ALONE),
    "advertise": ("SPEARLET_ADVERTISE_IP", _ALONE),
    "heartbeat_interval": ("SPEARLET_HEARTBEAT_INTERVAL", _ALONE),
    "audio.device": ("SPEARLET_AUDIO_DEVICE", "there is no audio in this build"),
    "mcp": ("", "there is no MCP in this build"),
}


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
    durable_bytes_max: int
    history_count_max: int
    history_bytes_max: int
    history_ns_max: int
    socket_path: str
    grpc_address: str
    grpc_tls: bool
    cert_path: str | None
    key_path: str | None
    client_ca_path: str | None
    frames_address: str | None
    auth_loopback: str
    token_path: str
    storage_backend: str
    data_dir: str
    kv_cache_mb: int
    one_object_bytes_max: int
    queue_max: int
    task_queue_max: int
    agents_depth: int
    agents_children_max: int
    logs_bytes_max: int
    task_log_bytes_max: int
    logs_ns_max: int
    log_level: str
    log_format: str
    log_path: str | None
    sources: dict[str, str]

    def __init__(self) -> None:
        self.sources = {}
        self._llm: LlmSettings | None = None

    def set(self, key: str, value: object, source: str) -> None:
        """Gives `key` a value that is stronger than those before. Raises InvalidArgument."""
        if key == _LLM:
            from spear import config_llm

            self._llm = config_llm.parse(value, source)
            self.sources[key] = source
            return
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

    @property
    def has_llm(self) -> bool:
        """Whether anything is said of models."""
        return _LLM in self.sources

    @property
    def llm(self) -> LlmSettings:
        """Model backends and how they are chosen; all of it from one source."""
        if self._llm is None:
            from spear.config_llm import DEFAULT

            self._llm = DEFAULT
        return self._llm

    def text(self, key: str) -> str:
        """The configured value as it is written."""
        return _BY_KEY[key].format(getattr(self, _BY_KEY[key].attribute))

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(key, value, source, summary) of every setting, in the order of the list, and what the
        tables of models say."""
        from spear import config_llm

        source = self.sources.get(_LLM, "default")
        return [
            *((setting.key, self.text(setting.key), self.sources[setting.key], setting.summary)
              for setting in SETTINGS),
            *((key, value, source, summary) for key, value, summary in config_llm.rows(self.llm)),
        ]  # fmt: skip


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
    _settle_paths(config)
    return config


def _settle_paths(config: Config) -> None:
    """Makes paths absolute: a relative one of ours lies in the data directory, all others are
    seen from the working directory."""
    config.data_dir = os.path.abspath(config.data_dir)
    for setting in SETTINGS:
        if setting.kind.startswith("path") and (path := getattr(config, setting.attribute)):
            ours = config.sources[setting.key] == "default"
            base = config.data_dir if ours else os.getcwd()
            setattr(config, setting.attribute, os.path.normpath(os.path.join(base, path)))


def environment() -> Mapping[str, str]:
    """The process's own: what tasks refer to as `env:NAME`, and what a supervisor says."""
    return os.environ


def settle_grpc() -> None:
    """gRPC writes nothing of its own on stderr, and its server reads a connection on the thread
    that takes events off the queue, not on one of three others (a sixth of a call's time: ADR
    0026); unless the environment asks for something else. To be said before grpc is imported, by a
    program, whose stderr is its own. A version that lacks the switch leaves it out."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")


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
    if setting.key == "cache_dir":
        return _folder(environ, "XDG_CACHE_HOME", ".cache", "off")
    if setting.key == "storage.data_dir":
        return _folder(environ, "XDG_DATA_HOME", ".local/share", "/var/lib/spear")
    return "localhost"


def _folder(environ: Mapping[str, str], name: str, beneath_home: str, homeless: str) -> str:
    """By the XDG base directory specification, where a relative path counts as unset."""
    base = environ.get(name, "")
    if os.path.isabs(base):
        return os.path.join(base, "spear")
    home = _home(environ)
    return os.path.join(home, beneath_home, "spear") if home else homeless


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
        whole = key in UNSERVED or key in _BY_KEY or key == _LLM
        if isinstance(value, dict) and value and not whole:
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

    known_keys = [*_BY_KEY, *UNSERVED, _LLM]
    nearest = difflib.get_close_matches(key, known_keys, 1, cutoff=0.6)
    near = f"the nearest known one is {nearest[0]!r}" if nearest else f"known: {', '.join(_BY_KEY)}"
    raise InvalidArgument(f"unknown key {key!r} ({source}): {near}")
