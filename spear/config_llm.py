"""The tables `llm.*` of the configuration: credentials, backends, discovery, prices, the filter.

The rule: keys of credentials never stand in a file, only names of environment variables; one that
does is refused, and neither it nor a value that may hold one is shown. What this build cannot serve
(a kind of backend) is kept with the reason, so that files of existing deployments are read; an
unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

import msgspec

from spear import tomltable as toml
from spear.errors import InvalidArgument
from spear.records.models import (
    ANTHROPIC,
    HTTP,
    KINDS,
    LOCAL,
    OLLAMA,
    REMOTE,
    STUB,
    BackendSpec,
)
from spear.tomltable import Table, found
from spear.units import format_duration, parse_address, parse_duration_ns

OPS = (
    "chat_completions", "embeddings", "image_generation", "speech_to_text", "text_to_speech",
    "realtime_voice",
)  # fmt: skip
FEATURES = ("supports_tools", "supports_json_schema")
TRANSPORTS = (HTTP, "in_process", "websocket")
SERVED_OPS = ("chat_completions", "embeddings")
UNSERVED_KINDS = {"openai_realtime_ws": "there is no audio in this build"}
ITEMS_MAX = 256  # of any list here
_NS = {"ms": 10**6, "s": 10**9, "h": 3600 * 10**9}
_MONEY_DIGITS = 9
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_SECRET_KEY = re.compile(r"(api_?)?key|.*token|.*secret.*|passw.*|authorization|.*_key", re.I)
# Where a backend is that does not say; an OpenAI-compatible one has to.
_BASE_URLS = {OLLAMA: "http://127.0.0.1:11434", ANTHROPIC: "https://api.anthropic.com"}
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1", re.I)


class BackendSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. 0 is no limit. `unserved` says why this build cannot ask it."""

    spec: BackendSpec
    concurrency: int = 0
    requests_per_minute: int = 0
    timeout_ns: int = 0  # of one request to it
    unserved: str = ""


class OllamaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an Ollama server for its models; `scope` is which: `serving` those loaded
    now, `installed` all it has."""

    enabled: bool = False
    scope: str = "serving"
    base_url: str = "http://127.0.0.1:11434"
    allow_remote: bool = False
    timeout_ms: int = 1500
    models_max: int = 32
    allow_models: tuple[str, ...] = ()
    deny_models: tuple[str, ...] = ()
    name_prefix: str = "ollama/"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """In billionths of a dollar a million tokens; `model` and `backend` may be globs."""

    model: str
    backend: str = "*"
    prompt: int = 0
    completion: int = 0


class FilterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`on_failure`: what a request gets when the filter does not answer. `content`: whether the
    filter is shown the messages."""

    address: str = ""
    timeout_ns: int = 500 * 10**6
    on_failure: str = "refuse"
    content: bool = False


class LlmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`retries`: further tries of a request, beside one of each backend that can answer it."""

    backends: tuple[BackendSettings, ...] = ()
    ollama: OllamaSettings = OllamaSettings()
    prices: tuple[Price, ...] = ()
    filter: FilterSettings = FilterSettings()
    retries: int = 2


STUB_BACKEND = BackendSettings(
    spec=BackendSpec(
        name="stub", kind=STUB, hosting=LOCAL, ops=("chat_completions", "embeddings"),
        features=FEATURES, transports=("in_process",),
    )
)  # fmt: skip
DEFAULT = LlmSettings(backends=(STUB_BACKEND,))


def parse(values: object, source: str) -> LlmSettings:
    """The settings in a table `llm`; `source` begins each error. Raises InvalidArgument."""
    if not isinstance(values, dict):
        raise InvalidArgument(f"{source}: llm: expected a table, found a {type(values).__name__}")
    table = Table(source, "llm", values)
    credentials = _credentials(table)
    backends = tuple(_backend(part, credentials) for part in _tables(table, "backends"))
    discovery = _subtable(table, "discovery")
    settings = LlmSettings(
        backends=backends,
        ollama=_ollama(_subtable(discovery, "ollama")),
        prices=tuple(_price(part) for part in _tables(table, "prices")),
        filter=_filter(_subtable(table, "filter")),
        retries=table.get("retries", toml.count(0, 10), LlmSettings().retries),
    )
    discovery.finish()
    table.finish()
    _check_unique(table, "backends", [backend.spec.name for backend in backends])
    if not backends and not settings.ollama.enabled:
        settings = msgspec.structs.replace(settings, backends=(STUB_BACKEND,))
    return settings


def rows(settings: LlmSettings) -> list[tuple[str, str, str]]:
    """(key, value, summary) for people; no secret is in the settings."""
    shown = [
        (f"llm.backends.{backend.spec.name}", _shown(backend), "a model backend")
        for backend in settings.backends
    ]
    ollama, filter = settings.ollama, settings.filter
    of_ollama = f"{ollama.scope} models of {ollama.base_url}" if ollama.enabled else "off"
    shown.append(("llm.discovery.ollama", of_ollama, "models that an Ollama server offers"))
    shown += [
        (f"llm.prices.{n}", _price_shown(price), "what a model costs")
        for n, price in enumerate(settings.prices)
    ]
    address = f"{filter.address}, at most {format_duration(filter.timeout_ns)}, else requests are "
    address += "refused" if filter.on_failure == "refuse" else "let through"
    shown.append(("llm.filter", address if filter.address else "off", "who has a say in routing"))
    shown.append(("llm.retries", str(settings.retries), "further tries of a failed request"))
    return shown


def is_loopback(base_url: str) -> bool:
    return bool(_LOOPBACK.fullmatch(urlsplit(base_url).hostname or ""))


def _shown(backend: BackendSettings) -> str:
    spec = backend.spec
    words = [spec.kind, spec.hosting, spec.base_url, spec.model and f"model {spec.model}"]
    words.append(spec.credential_ref and f"key in ${spec.credential_ref}")
    return " ".join(word for word in words if word)


def _price_shown(price: Price) -> str:
    where = "" if price.backend == "*" else f" at {price.backend}"
    usd = [Decimal(part).scaleb(-_MONEY_DIGITS).normalize() for part in _parts(price)]
    return f"{price.model}{where}: {usd[0]:f} + {usd[1]:f} USD a million tokens"


def _parts(price: Price) -> tuple[int, int]:
    return price.prompt, price.completion


def _tables(table: Table, key: str) -> list[Table]:
    """The tables of an array; a single one is called by its place."""
    items: list[dict[str, Any]] = table.get(key, _array, [])
    return [Table(table.file, f"{table.key}.{key}[{n}]", item) for n, item in enumerate(items)]


def _array(value: object) -> list[dict[str, Any]]:
    """What is found is not shown: a key may be in it."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidArgument("expected an array of tables, as [[spearlet.llm.backends]] is one")
    if len(value) > ITEMS_MAX:
        raise InvalidArgument(f"expected at most {ITEMS_MAX} tables, found {len(value)}")
    return value


def _subtable(table: Table, key: str) -> Table:
    return Table(table.file, table.full(key), table.get(key, _a_table, {}))


def _a_table(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise InvalidArgument(f"expected a table, found a {type(value).__name__}")


def _finish(table: Table) -> None:
    """Ends a table that people may put a key into."""
    for key in table.unread:
        if _SECRET_KEY.fullmatch(key):
            raise table.error(
                key,
                "a secret is not taken from a file: put it into an environment variable, and name "
                "that in api_key_env of an entry of llm.credentials",
            )
    table.finish()


def _credentials(table: Table) -> dict[str, str]:
    """Name to environment variable."""
    named: dict[str, str] = {}
    for part in _tables(table, "credentials"):
        name = part.get("name", toml.text(64), "")
        part.get("kind", toml.choice("env"), "env")
        variable = part.get("api_key_env", _variable, "")
        _finish(part)
        if not name or not variable:
            raise part.error("name" if not name else "api_key_env", "is missing")
        if name in named:
            raise part.error("name", f"there are two credentials {name!r}")
        named[name] = variable
    return named


def _variable(value: object) -> str:
    """What may be a key is not shown."""
    if isinstance(value, str) and _ENVIRONMENT_NAME.match(value):
        return value
    raise InvalidArgument("expected the name of an environment variable, such as OPENAI_API_KEY")


def _base_url(value: object) -> str:
    wanted = (
        "expected http://HOST[:PORT][/PATH] or https://... in plain ASCII, without a user, a key "
        "or a query"
    )
    try:
        parts = urlsplit(value) if isinstance(value, str) and len(value) <= 2048 else None
        fits = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        fits = fits and parts is not None and (parts.port or 1) > 0
    except ValueError:
        parts, fits = None, False
    plain = str(value).isascii() and str(value).isprintable() and not set(" ?#") & set(str(value))
    if parts is None or not fits or "@" in parts.netloc or not plain:
        raise InvalidArgument(wanted)
    return str(value).rstrip("/")


def _unserved_of(ops: tuple[str, ...]) -> str:
    """Why nobody can ask a backend for any of these; empty: one of them is served."""
    if set(ops) & set(SERVED_OPS):
        return ""
    return f"nothing in this build asks for {' or '.join(ops)}"


def _backend(table: Table, credentials: dict[str, str]) -> BackendSettings:
    name = table.get("name", _name, "")
    kind = table.get("kind", toml.choice(*KINDS, *UNSERVED_KINDS), "")
    hosting = table.get("hosting", toml.choice(LOCAL, REMOTE), "")
    spec = BackendSpec(
        name=name,
        kind=kind,
        hosting=hosting,
        base_url=table.get("base_url", _base_url, ""),
        model=table.get("model", toml.text(256, empty=True), ""),
        credential_ref=table.get("credential_ref", lambda ref: _credential(ref, credentials), ""),
        weight=table.get("weight", toml.count(0, 1_000_000), 100),
        priority=table.get("priority", toml.count(-1_000_000, 1_000_000), 0),
        ops=table.get("ops", _words(OPS), ("chat_completions",)),
        features=table.get("features", toml.listing(toml.text(64), 32), ()),
        transports=table.get("transports", _words(TRANSPORTS), _transports_of(kind)),
    )
    made = BackendSettings(
        spec=spec,
        concurrency=table.get("concurrency", toml.count(0, 100_000), 0),
        requests_per_minute=table.get("requests_per_minute", toml.count(0, 1_000_000), 0),
        timeout_ns=table.get("timeout", _duration(10 * _NS["ms"], _NS["h"]), 0),
        unserved=UNSERVED_KINDS.get(kind, "") or _unserved_of(spec.ops),
    )
    _finish(table)
    url = spec.base_url or _BASE_URLS.get(kind, "")
    needs_url = kind in KINDS and kind != STUB
    for key, value in (("name", name), ("kind", kind), ("hosting", hosting), ("base_url", url)):
        if not value and (key != "base_url" or needs_url):
            raise table.error(key, "is missing")
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(spec, base_url=url))


def _transports_of(kind: str) -> tuple[str, ...]:
    return {STUB: ("in_process",), "openai_realtime_ws": ("websocket",)}.get(kind, (HTTP,))


def _name(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}", value):
        return value
    raise InvalidArgument(
        f"expected a name of letters, digits and . _ : / @ - that begins with a letter or a digit, "
        f"{found(value)}"
    )


def _credential(value: object, credentials: dict[str, str]) -> str:
    """The environment variable of what a backend refers to: a credential of the file by its name,
    else the variable itself. What is neither may be a key, and is not shown."""
    if isinstance(value, str) and value in credentials:
        return credentials[value]
    if isinstance(value, str) and _ENVIRONMENT_NAME.match(value):
        return value
    known = ", ".join(sorted(credentials)) or "there are none"
    raise InvalidArgument(
        "expected the name of a credential of llm.credentials "
        f"({known}) or of an environment variable"
    )


def _words(known: tuple[str, ...]) -> toml.Read[tuple[str, ...]]:
    return toml.listing(toml.choice(*known), 32)


def _duration(low_ns: int, high_ns: int) -> toml.Read[int]:
    def read(value: object) -> int:
        ns = parse_duration_ns(value)
        if low_ns <= ns <= high_ns:
            return ns
        low, high = format_duration(low_ns), format_duration(high_ns)
        raise InvalidArgument(f"expected {low} to {high}, {found(value)}")

    return read


def _ollama(table: Table) -> OllamaSettings:
    default = OllamaSettings()
    globs = toml.listing(toml.text(256), ITEMS_MAX)
    made = OllamaSettings(
        enabled=table.get("enabled", toml.flag, False),
        scope=table.get("scope", toml.choice("serving", "installed"), default.scope),
        base_url=table.get("base_url", _base_url, default.base_url),
        allow_remote=table.get("allow_remote", toml.flag, False),
        timeout_ms=table.get("timeout_ms", toml.count(10, 60_000), default.timeout_ms),
        models_max=table.get("max_models", toml.count(1, 1000), default.models_max),
        allow_models=table.get("allow_models", globs, ()),
        deny_models=table.get("deny_models", globs, ()),
        name_prefix=table.get("name_prefix", _name, default.name_prefix),
    )
    _finish(table)
    if not made.allow_remote and not is_loopback(made.base_url):
        raise table.error("base_url", "is not of this machine: allow_remote = true would allow it")
    return made


def _price(table: Table) -> Price:
    made = Price(
        model=table.get("model", toml.text(256), ""),
        backend=table.get("backend", toml.text(128), "*"),
        prompt=table.get("prompt_usd_per_million", _money, 0),
        completion=table.get("completion_usd_per_million", _money, 0),
    )
    table.finish()
    if not made.model:
        raise table.error("model", "is missing: a name, or a pattern with * and ?")
    return made


def _money(value: object) -> int:
    """Billionths of a dollar."""
    try:
        number = Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation:
        number = Decimal(-1)
    if isinstance(value, bool) or not number.is_finite() or not 0 <= number <= 1_000_000:
        raise InvalidArgument(f"expected US dollars from 0 to 1000000, {found(value)}")
    return int(number.scaleb(_MONEY_DIGITS).to_integral_value("ROUND_CEILING"))


def _filter(table: Table) -> FilterSettings:
    default = FilterSettings()
    made = FilterSettings(
        address=table.get("addr", parse_address, ""),
        timeout_ns=table.get("timeout", _duration(_NS["ms"], 60 * _NS["s"]), default.timeout_ns),
        on_failure=table.get("on_failure", toml.choice("refuse", "allow"), default.on_failure),
        content=table.get("content", toml.flag, False),
    )
    _finish(table)
    return made


def _check_unique(table: Table, key: str, names: list[str]) -> None:
    for n, name in enumerate(names):
        if name in names[:n]:
            raise table.error(key, f"there are two of the name {name!r}")
