"""The JSON document of `spear run --output json`.

The rule: one document whatever happens, with the keys of the one template; null, 0 or empty where
there is nothing to say.
What never became an execution has the status `refused`, so that a guest's own exit code 125 is
told apart.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from spear.records.execution import Execution as Record
    from spear.records.execution import LogLine as RecordedLine
    from spear.records.usage import Usage
    from spear.runtime.interface import LogLine, Program
    from spear.spearlet.execution.execution import Execution

    AnyLogLine = LogLine | RecordedLine

_USAGE = ("calls", "prompt_tokens", "completion_tokens", "model_ms", "cost_nano_usd")
LEVELS = ("trace", "debug", "info", "warn", "error")


def _template() -> dict[str, Any]:
    """Every key, in order, with what it holds where nothing came to be."""
    return {
        "execution_id": None,
        "status": "refused",
        "cause": "refused",
        "exit_code": None,
        "error": None,
        "backtrace": [],
        "output": "",
        "output_encoding": "utf-8",
        "output_bytes": 0,
        "logs": [],
        "log_lines": 0,
        "log_lost": 0,
        "log_truncated": False,
        "times": dict.fromkeys(("created_ms", "started_ms", "finished_ms", "duration_ms")),
        "limits": dict.fromkeys(
            ("timeout_ms", "memory_bytes", "output_bytes", "log_bytes", "fuel")
        ),
        "memory_bytes": 0,
        "cpu_ms": 0,
        "fuel": None,
        "usage": dict.fromkeys(_USAGE, 0),
        "tree_usage": dict.fromkeys(_USAGE, 0),
        "input_bytes": 0,
        "task": None,
        "node": None,
        "artifact": dict.fromkeys(("sha256", "shape", "source")),
        "durability": None,
        "warnings": [],
    }


def _filled(found: dict[str, Any]) -> dict[str, Any]:
    """The template with what was found; RuntimeError for a key it does not have."""
    content = _template()
    for key, value in found.items():
        if key not in content:
            raise RuntimeError(f"the document has no key {key!r}")
        if isinstance(content[key], dict) and set(content[key]) != set(value):
            raise RuntimeError(f"{key!r} of the document has the keys {list(content[key])}")
        content[key] = value
    return content


def of_execution(
    execution: Execution | Record, program: Program | None, logs: Sequence[AnyLogLine],
    warnings: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Everything the record says; times in Unix milliseconds, sizes in bytes. `program` is there
    where the run was in this process."""
    error = execution.error
    text, encoding = text_of(execution.output)
    return _filled({
        "execution_id": execution.id,
        "status": execution.status,
        "cause": execution.cause,
        "exit_code": execution.exit_code,
        "error": error and _error(error.code, error.message, error.trap, ""),
        "backtrace": [
            {"function": frame.function, "index": frame.index, "offset": frame.offset}
            for frame in (error.backtrace if error else ())
        ],
        "output": text,
        "output_encoding": encoding,
        "output_bytes": len(execution.output),
        "logs": [log_of(line) for line in logs],
        "log_lines": execution.log_lines,
        "log_lost": execution.log_lost,
        "log_truncated": execution.log_truncated,
        "times": _times(execution),
        "limits": _limits(execution),
        "memory_bytes": execution.memory_bytes,
        "cpu_ms": execution.cpu_ns / 1e6,
        "fuel": execution.fuel,
        "usage": of_usage(execution.usage),
        "tree_usage": of_usage(execution.tree_usage),
        "input_bytes": execution.input_bytes,
        "task": execution.task_name,
        "node": execution.node_name,
        "artifact": {
            "sha256": execution.artifact, "shape": program and program.shape,
            "source": program and program.source,
        },
        "durability": execution.durability,
        "warnings": list(warnings),
    })  # fmt: skip


def of_refusal(code: str, sentence: str, hint: str) -> dict[str, Any]:
    """Where no execution came to be."""
    return _filled({"error": _error(code, sentence, "", hint)})


def _error(code: str, message: str, trap: str, hint: str) -> dict[str, str]:
    return {"code": code, "message": message, "trap": trap, "hint": hint}


def dump(document: dict[str, Any]) -> bytes:
    import json

    return json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def code_of(error: Exception) -> str:
    """ModuleInvalid -> MODULE_INVALID."""
    name = type(error).__name__
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper()


def text_of(data: bytes) -> tuple[str, str]:
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        import base64

        return base64.b64encode(data).decode(), "base64"


def log_of(line: AnyLogLine) -> dict[str, Any]:
    return {
        "seq": line.seq, "time_ms": line.time_ms, "level": level_of(line),
        "stream": line.stream, "message": line.message,
    }  # fmt: skip


def of_usage(used: Usage | None) -> dict[str, float]:
    """What was used of models; zeros where none was asked."""
    if used is None:
        return dict.fromkeys(_USAGE, 0)
    return {
        "calls": used.calls, "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens, "model_ms": used.model_ns / 1e6,
        "cost_nano_usd": used.cost_nano_usd,
    }  # fmt: skip


def level_of(line: AnyLogLine) -> str:
    return line.level if isinstance(line.level, str) else LEVELS[line.level]


def _times(execution: Execution | Record) -> dict[str, float]:
    return {
        "created_ms": execution.created_ns / 1e6,
        "started_ms": execution.started_ns / 1e6,
        "finished_ms": execution.finished_ns / 1e6,
        "duration_ms": execution.duration_ns / 1e6,
    }


def _limits(execution: Execution | Record) -> dict[str, float | None]:
    """A record of a node tells the time alone; its task has the rest."""
    limits: dict[str, int | None] = dict(getattr(execution, "limits", None) or {
        "timeout_ns": getattr(execution, "timeout_ns", 0), "memory_bytes": None,
        "output_bytes": None, "log_bytes": None, "fuel": None,
    })  # fmt: skip
    return {"timeout_ms": (limits.pop("timeout_ns") or 0) / 1e6, **limits}
