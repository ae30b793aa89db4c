"""The one list of what agents may ask of the host: names, imports, signatures, operation codes.

Rule: a capability has one row, whoever asks for it: a WASM guest by its import of module `spear`, a
process agent by its operation code. Who answers it in this build is not written here but asked of
the import tables. Sources: the guest ABI, sections 2 and 16; the frame protocol's operations.
"""

from __future__ import annotations

from dataclasses import dataclass

MODULE = "spear"
NATIVE, PYTHON, NOT_YET = "native", "python", "not yet"
_TYPES = {"i": "i32", "I": "i64"}


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that an agent may ask for.

    `call` is its import and `params`, `results` its signature, a letter a value (i for i32, I for
    i64); None where guests have no such import. `op` is its operation code, None where process
    agents have no such operation. `blocks`: the guest ABI lets it wait for something to happen.
    """

    name: str
    call: str | None
    params: str = ""
    results: str = "i"
    op: int | None = None
    blocks: bool = False

    @property
    def signature(self) -> str:
        """As the engine tells it: "(i32, i64) -> i32"."""
        params = ", ".join(_TYPES[letter] for letter in self.params)
        return f"({params}) -> {', '.join(_TYPES[letter] for letter in self.results) or '()'}"


CAPABILITIES: tuple[Capability, ...] = (
    Capability("time now", "time_now_ms", "", "I"),
    Capability("wall time", "wall_time_s", "", "I"),
    Capability("random", "random_i64", "", "I"),
    Capability("sleep", "sleep_ms", "i", "", blocks=True),
    Capability("log", "log", "iii", op=16),
    Capability("object put", "object_put", "iiiiIii", op=17),
    Capability("object get", "object_get", "iiiii", op=18),
    Capability("object stat", "object_stat", "iiii", op=19),
    Capability("object list", "object_list", "iiiiiii", op=20),
    Capability("object delete", "object_delete", "iiIi", op=21),
    Capability("object add_ref", "object_add_ref", "iii", op=22),
    Capability("object remove_ref", "object_remove_ref", "iii", op=23),
    Capability("object pin", "object_pin", "ii", op=24),
    Capability("object unpin", "object_unpin", "ii", op=25),
    Capability("object snapshot", None, op=26),
    Capability("object transact", None, op=27),
    Capability("task invoke", "task_invoke", "iiiii", op=32, blocks=True),
    Capability("task result", "task_result", "iii", op=33),
    Capability("task cancel", "task_cancel", "iii", op=34),
    Capability("task wait", "task_wait", "ii", op=35, blocks=True),
    Capability("task status", "task_status", "iii"),
    Capability("task close", "task_close", "i"),
    Capability("chat create", "cchat_create", op=40),
    Capability("chat write", "cchat_write_msg", "iiiii", op=41),
    Capability("chat tool", "cchat_write_fn", "iiii", op=42),
    Capability("chat send", "cchat_send", "ii", op=43, blocks=True),
    Capability("chat stream", "cchat_stream", "ii", op=44),
    Capability("embeddings", "embed_send", "iii", op=45, blocks=True),
    Capability("mcp", None, op=46, blocks=True),
    Capability("http", None, op=47, blocks=True),
    Capability("chat control", "cchat_ctl", "iiii", op=48),
    Capability("chat receive", "cchat_recv", "iii"),
    Capability("chat close", "cchat_close", "i"),
    Capability("chat stream read", "cchat_stream_read", "iii"),
    Capability("speech create", "rtasr_create"),
    Capability("speech control", "rtasr_ctl", "iiii"),
    Capability("speech write", "rtasr_write", "iii"),
    Capability("speech read", "rtasr_read", "iii"),
    Capability("speech close", "rtasr_close", "i"),
    Capability("microphone create", "mic_create"),
    Capability("microphone control", "mic_ctl", "iiii"),
    Capability("microphone read", "mic_read", "iii"),
    Capability("microphone close", "mic_close", "i"),
    Capability("stream open", "user_stream_open", "ii", op=60),
    Capability("stream write", "user_stream_write", "iii", op=61),
    Capability("stream close", "user_stream_close", "i", op=62),
    Capability("stream control events", "user_stream_ctl_read", "iii", op=63),
    Capability("stream read", "user_stream_read", "iii"),
    Capability("stream control open", "user_stream_ctl_open"),
    Capability("poll create", "spear_epoll_create"),
    Capability("poll control", "spear_epoll_ctl", "iiii"),
    Capability("poll wait", "spear_epoll_wait", "iiii", blocks=True),
    Capability("poll close", "spear_epoll_close", "i"),
    Capability("descriptor control", "spear_fd_ctl", "iiii"),
)


def by_import(call: str) -> Capability:
    """The capability that guests import as `call`; KeyError if there is none."""
    for capability in CAPABILITIES:
        if capability.call == call:
            return capability
    raise KeyError(f"no capability is imported as {call!r}")


def by_op(op: int) -> Capability:
    """The capability of an operation code; KeyError if there is none."""
    for capability in CAPABILITIES:
        if capability.op == op:
            return capability
    raise KeyError(f"no capability has operation code {op}")


def served_by(capability: Capability) -> str:
    """Who answers guests in this build: NATIVE code in place, PYTHON, or NOT_YET anybody."""
    from spear._core.engine import describe_imports

    if capability.call is None:
        return NOT_YET
    return describe_imports()[MODULE, capability.call].served_by
