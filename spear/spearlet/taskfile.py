"""A task file (`spear.toml`): what a task is, written by a person, read into a TaskSpec.

The rule: every key does something. What this build cannot do is refused with the reason, an unknown
key with the nearest known one. Nothing is read but the file: neither the artifact nor the
environment.
"""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from spear import tomltable as toml
from spear._core.tasknames import check_task_name
from spear.config import SETTINGS, parse_duration_ns, parse_size
from spear.errors import InvalidArgument, NotFound
from spear.records.task import (
    PRIORITIES,
    RUNTIMES,
    Directory,
    Limits,
    Pool,
    Resources,
    Retry,
    TaskSpec,
)
from spear.spearlet.admission import NODE_QUEUE_MAX
from spear.spearlet.taskconfig import check_config
from spear.spearlet.webhooks.delivery import check_url
from spear.tomltable import Table, found

FILE_NAME = "spear.toml"
# Ends that another attempt may change; who cancels does not want another.
RETRY_CODES = (
    "TRAP", "DEADLINE", "NODE_BUSY", "EXIT", "OUTPUT_LIMIT", "INSTANTIATE", "FUEL", "NO_MEMORY",
    "ARTIFACT", "OUTCOME_UNKNOWN",
)  # fmt: skip
_SETTINGS = {setting.key: setting for setting in SETTINGS}
_TEXT_MAX, _PATH_MAX, _ITEMS_MAX = 65_536, 4096, 256
_GUESTS_MAX, _FUEL_MAX, _LONGEST_NS = 20_000, 1 << 62, 365 * 86_400 * 10**9
_ENDPOINT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_NOT_SERVED = {
    "network": "agents have no network in this build",
    "mcp": "there is no MCP in this build",
}
_Value = str | tuple[str]  # of the environment: a text, or a name that the node knows
_TEXTS = toml.mapping(toml.text(_TEXT_MAX, empty=True), _ITEMS_MAX)


class TaskFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says. `spec.artifact` is the sha256 that it names; where that is "", the caller
    fills in that of the bytes. `path` is where the bytes lie, "" where the node must have them.
    `idempotency_key` is for the one execution that `spear submit -f` asks for; a task has none."""

    spec: TaskSpec
    path: str
    idempotency_key: str = ""


def read(path: str) -> TaskFile:
    """The file `path`, or spear.toml in the folder `path`. Raises NotFound, InvalidArgument."""
    name = os.path.join(path, FILE_NAME) if os.path.isdir(path) else path
    try:
        with open(name, "rb") as file:
            content = file.read(toml.BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no task file {name!r}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot read the task file {name!r}: {reason}") from error
    return parse(content, name, os.path.dirname(os.path.abspath(name)))


def parse(content: bytes, name: str, folder: str) -> TaskFile:
    """`name` is the file's in errors; relative paths begin at `folder`. Raises InvalidArgument."""
    top = toml.load(name, content)
    for key, reason in _NOT_SERVED.items():
        top.get(key, _refuse(reason), None)
    path, digest = _artifact(top, folder)
    env, env_from = _environment(top)
    spec = TaskSpec(
        name=top.get("name", _task_name, ""),
        artifact=digest,
        runtime=top.get("runtime", _runtime, "wasm"),
        description=top.get("description", toml.text(_TEXT_MAX, empty=True), ""),
        entry=top.get("entry", toml.text(_PATH_MAX), ""),
        args=top.get("args", toml.listing(toml.text(_TEXT_MAX, empty=True), 4096), ()),
        env=env,
        env_from=env_from,
        config=_config(top),
        metadata=top.get("metadata", _TEXTS, {}),
        endpoint=top.get("endpoint", _endpoint, ""),
        priority=top.get("priority", toml.choice(*PRIORITIES), "normal"),
        concurrency=top.get("concurrency", toml.count(1, _GUESTS_MAX), 0),
        queue=top.get("queue", toml.count(1, NODE_QUEUE_MAX), 0),
        limits=_limits(top.table("limits")),
        resources=_resources(top.table("resources")),
        retry=_retry(top.table("retry")),
        pool=_pool(top.table("pool")),
        dirs=_directories(top, folder),
        object_grants=_grants(top.table("objects")),
        webhook=top.get("webhook", _webhook, ""),
    )
    key = top.get("idempotency_key", toml.text(256), "")
    top.finish()
    if not spec.name:
        raise top.error("name", "a task has a name, found none")
    return TaskFile(spec=spec, path=path, idempotency_key=key)


def _artifact(top: Table, folder: str) -> tuple[str, str]:
    """Where the bytes lie and their sha256, as far as the file says."""
    value = top.get("artifact", _path_or_table, None)
    if value is None:
        raise top.error("artifact", "expected a path, or a table of path or uri and checksum")
    part = Table(top.file, "artifact", {"path": value} if isinstance(value, str) else value)
    path = part.get("path", toml.text(_PATH_MAX), "")
    scheme, rest = part.get("uri", _uri, ("", ""))
    digest = part.get("checksum", _checksum, "")
    beside = top.get("checksum", _checksum, "")
    part.finish()
    if digest and beside:
        raise top.error("checksum", "is said in the artifact's table too: once is enough")
    digest = digest or beside
    if bool(path) == bool(scheme):
        raise top.error("artifact", f"expected either path or uri, {found(value)}")
    if scheme == "sha256":
        if digest and digest != rest:
            where = top if beside else part
            raise where.error("checksum", f"is not that of the uri: found {digest}")
        return "", rest
    return os.path.normpath(os.path.join(folder, path or rest)), digest


def _path_or_table(value: object) -> str | dict[str, object]:
    return value if isinstance(value, str) else toml.table(value)


def _uri(value: object) -> tuple[str, str]:
    """`file` and the path, or `sha256` and the digest."""
    uri = toml.text(_PATH_MAX)(value)
    accepted = "expected file:///PATH or sha256:DIGEST"
    if uri.startswith("sha256:"):
        return "sha256", _checksum(uri)
    try:
        parts = urlsplit(uri)
        path = unquote(parts.path, errors="strict")
    except ValueError:
        raise InvalidArgument(f"{accepted}, {found(uri)}") from None
    if parts.scheme in ("http", "https", "smsfile"):
        raise InvalidArgument(f"this build fetches nothing: {accepted}, {found(uri)}")
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or len(path) < 2:
        raise InvalidArgument(f"{accepted}, {found(uri)}")
    if "\0" in path or parts.query or parts.fragment:
        raise InvalidArgument(f"{accepted}, {found(uri)}")
    return "file", path


def _checksum(value: object) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value.removeprefix("sha256:")):
        return value.removeprefix("sha256:").lower()
    raise InvalidArgument(f"expected a sha256 in 64 hexadecimal digits, {found(value)}")


def _environment(top: Table) -> tuple[dict[str, str], dict[str, str]]:
    """The values, and for those that the node has, their names there."""
    values: dict[str, _Value] = top.get("env", toml.mapping(_value_or_reference, _ITEMS_MAX), {})
    for name in values:
        if "=" in name:
            raise top.error("env", f"{name!r} cannot name an environment variable")
    env = {name: value for name, value in values.items() if isinstance(value, str)}
    return env, {name: value[0] for name, value in values.items() if isinstance(value, tuple)}


def _value_or_reference(value: object) -> _Value:
    if isinstance(value, str):
        return toml.text(_TEXT_MAX, empty=True)(value)
    source = value.get("from") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(source, str) and source.startswith("env:"):
        name = toml.text(256)(source.removeprefix("env:"))
        if "=" not in name:
            return (name,)
    raise InvalidArgument(f'expected a text or {{from = "env:NAME"}}, {found(value)}')


def _config(top: Table) -> dict[str, str]:
    """`[config]` as it is, and what has a table of its own; the same said twice is refused."""
    own: dict[str, str] = top.get("config", _TEXTS, {})
    config = dict(own)
    llm, budget, calls = top.table("llm"), top.table("budget"), top.table("calls")
    names = toml.listing(toml.text(256), _ITEMS_MAX)
    said = {
        "llm.backends": llm.get("backends", names, None),
        "budget.calls": budget.get("calls", toml.count(1, _FUEL_MAX), None),
        "budget.tokens": budget.get("tokens", toml.count(1, _FUEL_MAX), None),
        "budget.time": budget.get("time", _written(_duration), None),
        "budget.usd": budget.get("usd", _written(_amount), None),
        "tasks.allowed": calls.get("tasks", names, None),
    }
    for part in (llm, budget, calls):
        part.finish()
    for key, value in said.items():
        if value is not None and key in config:
            raise top.error("config", f"{key!r} is said here and in a table of its own")
        if value is not None:
            config[key] = json.dumps(value) if isinstance(value, tuple) else str(value)
    try:
        check_config(config)
    except InvalidArgument as error:
        raise top.error("config", str(error).removeprefix("config: ")) from None
    return config


def _written(read: toml.Read[Any]) -> toml.Read[str]:
    """The value as it was written, once it can be read."""

    def written(value: object) -> str:
        read(value)
        return str(value)

    return written


def _amount(value: object) -> Decimal:
    """Of money."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal(-1)
    if isinstance(value, bool) or not amount.is_finite() or not 0 < amount <= 10**9:
        raise InvalidArgument(f"expected an amount of US dollars above 0, {found(value)}")
    return amount


def _limits(part: Table) -> Limits:
    limits = Limits(
        timeout_ns=part.get("timeout", _SETTINGS["limits.timeout"].parse, 0),
        memory_bytes=part.get("memory", _SETTINGS["limits.memory"].parse, 0),
        output_bytes=part.get("output", _positive("limits.output"), 0),
        log_bytes=part.get("log", _positive("limits.log"), 0),
        fuel=part.get("fuel", toml.count(1, _FUEL_MAX), 0),
    )
    part.finish()
    return limits


def _positive(key: str) -> toml.Read[int]:
    """As the setting, but 0 would mean the node's own here."""

    def read(value: object) -> int:
        amount = int(_SETTINGS[key].parse(value))
        if amount == 0:
            raise InvalidArgument(f"expected 1 byte or more, {found(value)}")
        return amount

    return read


def _resources(part: Table) -> Resources:
    resources = Resources(
        cpu_millis=part.get("cpu", toml.thousandths(0.001, 4096), 0),
        memory_bytes=part.get("memory", _size, 0),
    )
    part.finish()
    return resources


def _retry(part: Table) -> Retry:
    usual = Retry()
    retry = Retry(
        attempts=part.get("attempts", toml.count(1, 100), usual.attempts),
        backoff_ns=part.get("backoff", _duration, usual.backoff_ns),
        backoff_max_ns=part.get("backoff_max", _duration, usual.backoff_max_ns),
        on=part.get("on", toml.listing(toml.choice(*RETRY_CODES), len(RETRY_CODES)), usual.on),
    )
    part.finish()
    return retry


def _pool(part: Table) -> Pool:
    usual = Pool()
    pool = Pool(
        min=part.get("min", toml.count(0, _GUESTS_MAX), usual.min),
        max=part.get("max", toml.count(1, _GUESTS_MAX), usual.max),
        idle_ns=part.get("idle", _duration, usual.idle_ns),
        isolation=part.get("isolation", toml.choice("fresh", "shared"), usual.isolation),
    )
    part.finish()
    if 0 < pool.max < pool.min:
        raise part.error("max", f"expected {pool.min}, the minimum, or more, found {pool.max}")
    return pool


def _directories(top: Table, folder: str) -> tuple[Directory, ...]:
    directories = []
    tables: tuple[dict[str, Any], ...] = top.get("dirs", toml.listing(toml.table, _ITEMS_MAX), ())
    for number, values in enumerate(tables, 1):
        part = Table(top.file, f"dirs[{number}]", values)
        host = part.get("host", toml.text(_PATH_MAX), "")
        guest = part.get("guest", toml.text(_PATH_MAX), host)
        writable = part.get("writable", toml.flag, False)
        part.finish()
        if not host:
            raise part.error("host", "expected the directory's path, found none")
        path = os.path.normpath(os.path.join(folder, host))
        directories.append(Directory(host=path, guest=guest, writable=writable))
    return tuple(directories)


def _grants(part: Table) -> tuple[str, ...]:
    grants: tuple[str, ...] = part.get("grants", toml.listing(_task_name, _ITEMS_MAX), ())
    part.finish()
    return grants


def _task_name(value: object) -> str:
    name = toml.text(_PATH_MAX)(value)
    check_task_name(name)
    return name


def _runtime(value: object) -> str:
    name = toml.choice(*RUNTIMES)(value)
    if name != "wasm":
        raise InvalidArgument(f"this build runs wasm only, {found(name)}")
    return name


def _endpoint(value: object) -> str:
    if isinstance(value, str) and _ENDPOINT.fullmatch(value):
        return value.lower()
    raise InvalidArgument(f"expected 1 to 64 of a-z, 0-9, _ and -, {found(value)}")


def _webhook(value: object) -> str:
    url = toml.text(_PATH_MAX)(value)
    check_url(url)
    return url


def _duration(value: object) -> int:
    found_ns = parse_duration_ns(value)
    if not 0 <= found_ns <= _LONGEST_NS:
        raise InvalidArgument(f"expected 0 to 365d, {found(value)}")
    return found_ns


def _size(value: object) -> int:
    size = parse_size(value)
    if not 1 <= size <= 4096 << 40:
        raise InvalidArgument(f"expected 1 byte to 4096TiB, {found(value)}")
    return size


def _refuse(reason: str) -> toml.Read[None]:
    def read(value: object) -> None:
        raise InvalidArgument(f"is not served: {reason}")

    return read
