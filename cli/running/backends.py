"""Model backends without a node: asked by the local configuration, and added to its file.

The rule: a file that people wrote is only appended to, and only if it can be read afterwards with
the new backend in it; else it stays as it is. It is replaced in one step.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from typing import Any

from spear import config as configuration
from spear import config_llm
from spear.clock import Clock
from spear.errors import AlreadyExists, InvalidArgument
from spear.hostcalls.llm.building import models_of
from spear.records.models import ANTHROPIC, LOCAL, OLLAMA, REMOTE, STUB
from spear.telemetry.jsonlog import Descriptor, open_log
from spear.telemetry.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config import Config
    from spear.hostcalls.llm.models import Models

_FILE_BYTES_MAX = 1 << 20
_PLAIN = ("weight", "priority", "concurrency", "requests_per_minute", "timeout")


def models_here(config_path: str | None, clock: Clock) -> Models:
    """By the configuration and the environment of this process. Raises InvalidArgument."""
    defaults = {"node_name": clock.host_name()}
    return models_by(configuration.load(config_path, defaults=defaults), clock)


def models_by(config: Config, clock: Clock) -> Models:
    """By this configuration and the environment of this process; nothing is asked yet."""
    redactor = Redactor()
    log = open_log(Descriptor(2), clock, redactor, level="error", form="console")
    return models_of(
        config.llm, environ=configuration.environment(), clock=clock, log=log, redactor=redactor
    )


def added(name: str, given: Mapping[str, Any], config_path: str | None) -> str:
    """Adds the backend, with the options of `spear model add`, and gives the file's path. Raises
    InvalidArgument, AlreadyExists."""
    path = os.path.realpath(configuration.file_path(config_path))
    text = _read(path)
    before = _llm_of(path, text)
    if any(one.spec.name == name for one in config_llm.parse(before, path).backends) and (
        before.get("backends")
    ):
        raise AlreadyExists(f"{path} has a backend {name!r} already: change it there")
    new = text + ("" if not text or text.endswith("\n") else "\n") + ("\n" if text else "")
    new += _tables(name, given, before)
    try:
        config_llm.parse(_llm_of(path, new), path)
    except InvalidArgument as error:
        raise _refused(str(error), path, before) from None
    _write(path, new)
    return path


def _refused(sentence: str, path: str, before: Mapping[str, Any]) -> InvalidArgument:
    """With the option that was typed in place of the key it stands for."""
    place = f"{path}: llm.backends[{len(before.get('backends') or ())}]."
    key, colon, rest = sentence.removeprefix(place).partition(": ")
    if colon and sentence.startswith(place):
        option = "NAME" if key == "name" else f"--{key.replace('_', '-')}"
        sentence = f"{option}: {rest}"
    return InvalidArgument(f"nothing was added: {sentence}")


def _read(path: str) -> str:
    if not path:
        raise InvalidArgument("there is no home directory: say which file by --config FILE")
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_BYTES_MAX + 1).decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"cannot read {path!r}: {error}") from None


def _llm_of(path: str, text: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text).get("spearlet", {}).get("llm", {})
    except (tomllib.TOMLDecodeError, AttributeError, RecursionError) as error:
        raise InvalidArgument(
            f"cannot add to {path!r} by itself ({error}): write the backend there as one more "
            "table [[spearlet.llm.backends]]"
        ) from None
    return found if isinstance(found, dict) else {}


def _tables(name: str, given: Mapping[str, Any], llm: Mapping[str, Any]) -> str:
    """The backend, and a credential where its variable has none yet."""
    kind, url, variable = given["kind"], given.get("base_url"), given.get("key_env")
    here = kind == STUB or config_llm.is_loopback(url or "") or (kind == OLLAMA and not url)
    lines, credential = [], ""
    if variable:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", variable):
            raise InvalidArgument(
                "--key-env is the name of an environment variable, such as OPENAI_API_KEY; the key "
                "itself is never written into a file"
            )
        known = llm.get("credentials") or []
        named = [one.get("name") for one in known if one.get("api_key_env") == variable]
        credential = str(named[0]) if named else variable.lower()
        if not named:
            lines += _table("credentials", name=credential, kind="env", api_key_env=variable)
    embeds = [] if kind == ANTHROPIC else ["embeddings"]
    fields: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "hosting": given.get("hosting") or (LOCAL if here else REMOTE),
        "base_url": url,
        "model": given.get("model"),
        "credential_ref": credential,
        "ops": ["chat_completions", *embeds],
        "features": list(config_llm.FEATURES),
    }
    fields |= {key: given.get(key) for key in _PLAIN if given.get(key) is not None}
    lines += _table("backends", **{key: value for key, value in fields.items() if value != ""})
    return "\n".join(lines)


def _table(array: str, /, **fields: Any) -> list[str]:
    pairs = [f"{key} = {_toml(value)}" for key, value in fields.items() if value is not None]
    return [f"[[spearlet.llm.{array}]]", *pairs, ""]


def _toml(value: Any) -> str:
    """Texts, numbers and lists of texts, whose JSON is TOML too once DEL is escaped."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _write(path: str, text: str) -> None:
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o600
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".config-")
    except OSError as error:
        raise InvalidArgument(f"cannot write {path!r}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, mode)
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise InvalidArgument(f"cannot write {path!r}: {error.strerror}") from None
