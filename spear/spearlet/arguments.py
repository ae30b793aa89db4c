"""What callers give to a guest, checked: bytes, argv, environment, names.

The rule: nothing is guessed. What has the wrong type is refused with what is accepted, before its
size is looked at, and its size before it is copied.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from spear._core.tasknames import check_task_name
from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES_MAX = 1 << 20  # args and env together
_GRANTS_MAX = 256


def bytes_of(what: str, value: object, check_size: Callable[[int], None]) -> bytes:
    """The bytes of a text (as UTF-8) or of an object with the buffer protocol."""
    if isinstance(value, str):
        check_size(len(value))
        value = _encoded(what, value)
    if type(value) is bytes:
        check_size(len(value))
        return value
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        raise InvalidArgument(
            f"{what} is bytes, a bytearray, a memoryview or another buffer, or a text; "
            f"found {type(value).__name__} {_shown(value)}"
        ) from None
    with view:
        check_size(view.nbytes)
        return view.tobytes()


def task_name_of(name: object, source: object) -> str:
    """The name given, else the stem of the file's name; one that a task can have."""
    if not isinstance(name, str):
        raise InvalidArgument(f"name is a text, found {_shown(name)}")
    if not name and isinstance(source, (str, os.PathLike)):
        name = os.path.splitext(os.path.basename(os.fsdecode(source)))[0]
    check_task_name(name or "main")
    return name or "main"


def grants_of(names: object) -> tuple[str, ...]:
    """The names of the tasks whose objects a guest may use."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InvalidArgument(f"object_grants is a list of task names, found {_shown(names)}")
    if len(names) > _GRANTS_MAX:
        raise InvalidArgument(f"{len(names)} object_grants, at most {_GRANTS_MAX} are taken")
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument(f"object_grants are task names, found {_shown(name)}")
        check_task_name(name)
    return tuple(names)


def entry_of(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidArgument(f"entry is the name of an exported function, found {_shown(name)}")
    return "_start" if name in ("", "__spear_default_entry__") else name


def environment_of(env: object) -> dict[str, str]:
    """A copy of the mapping, once its names can be those of variables."""
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise InvalidArgument(f"env is a mapping of texts, found {_shown(env)}")
    found = dict(env)
    for key, value in found.items():
        _size(key)
        _size(value)
        if not key or "=" in key:
            raise InvalidArgument(f"{key!r} cannot name an environment variable")
    return found


def arguments_of(name: str, args: object, env: dict[str, str]) -> tuple[str, ...]:
    """argv, once it and the environment can be passed as C strings."""
    if not isinstance(args, (tuple, list)) and (
        isinstance(args, str) or not isinstance(args, Sequence)
    ):
        raise InvalidArgument(f"args is a list or tuple of texts, found {_shown(args)}")
    argv = (name, *args)
    size = sum(map(_size, (*argv, *env, *env.values())))
    if size > _BYTES_MAX:
        raise InvalidArgument(f"args and env take {size} bytes, more than {_BYTES_MAX}")
    return argv


def _size(text: object) -> int:
    if not isinstance(text, str) or "\0" in text:
        raise InvalidArgument(f"args and env are UTF-8 texts without a NUL, found {_shown(text)}")
    return (len(text) if text.isascii() else len(_encoded("a text of args or env", text))) + 1


def _encoded(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = text[error.start : error.start + 20]
        raise InvalidArgument(f"{what} cannot be written as UTF-8: found {found!r}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
