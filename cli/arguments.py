"""Reads the arguments of one verb from its table of options.

The rule: pure, and without click, whose import alone costs more than the rest of a start. The
same table gives click what it needs for help and completion (tree.py).
"""

from __future__ import annotations

from spear.config import parse_count
from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UsageError(Exception):
    """The command line is not understood; the sentence says which part."""


class Option:
    """One option that takes a value; with `choices` only one of them, with `repeated` many. Without
    a metavar it is a flag, which takes none."""

    __slots__ = ("attribute", "choices", "flag", "metavar", "repeated", "summary")

    def __init__(
        self, flag: str, metavar: str, summary: str, *, repeated: bool = False,
        choices: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.flag, self.metavar, self.summary = flag, metavar, summary
        self.repeated, self.choices = repeated, choices
        self.attribute = flag.removeprefix("--").replace("-", "_")


class Parsed:
    """`values` by attribute, only of options that were given; `operands` before `--`, `rest`
    after it."""

    __slots__ = ("operands", "rest", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.operands: list[str] = []
        self.rest: list[str] = []

    def last(self, attribute: str) -> str | None:
        """The value given last, which is the one that counts."""
        found = self.values.get(attribute)
        return found[-1] if found else None


def parse(
    arguments: Sequence[str], options: Sequence[Option], unserved: Mapping[str, str] | None = None
) -> Parsed:
    """Splits the arguments; `unserved` maps flags that are understood but not served to the
    reason. Raises UsageError."""
    known = {option.flag: option for option in options}
    parsed = Parsed()
    words = iter(arguments)
    for word in words:
        if word == "--":
            parsed.rest = list(words)
        elif word.startswith("-") and word != "-":
            flag, given, value = word.partition("=")
            option = known.get(flag) or _unknown(flag, known, unserved or {})
            if not option.metavar:
                _mark(parsed, option, given)
            else:
                _keep(parsed, option, value if given else next(words, None))
        else:
            parsed.operands.append(word)
    return parsed


def _mark(parsed: Parsed, option: Option, given: str) -> None:
    if given:
        raise UsageError(f"{option.flag} takes no value")
    parsed.values[option.attribute] = ["on"]


def _keep(parsed: Parsed, option: Option, value: str | None) -> None:
    if value is None:
        raise UsageError(f"{option.flag} needs a value: {option.flag} {option.metavar}")
    if option.choices and value not in option.choices:
        raise UsageError(f"{option.flag} is one of {', '.join(option.choices)}, not {value!r}")
    parsed.values.setdefault(option.attribute, []).append(value)


def _unknown(flag: str, known: Mapping[str, Option], unserved: Mapping[str, str]) -> Option:
    if flag in unserved:
        raise UsageError(f"{flag} is not served by this build: {unserved[flag]}")
    import difflib

    nearest = difflib.get_close_matches(flag, known, 1, cutoff=0.7)
    advice = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
    raise UsageError(f"no option {flag}: {advice}")


def number(flag: str, text: str, low: int, high: int) -> int:
    """The value of an option that counts. Raises UsageError."""
    try:
        found = parse_count(text)
    except InvalidArgument as error:
        raise UsageError(f"{flag}: {error}") from None
    if not low <= found <= high:
        raise UsageError(f"{flag}: expected {low} to {high}, found {text}")
    return found


def asks_for(arguments: Sequence[str], flag: str, value: str) -> bool:
    """Whether `flag` has `value` in arguments that need not be well formed; the last counts."""
    own = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    said = ""
    for word, following in zip(own, [*own[1:], ""], strict=False):
        if word == flag:
            said = following
        elif word.startswith(f"{flag}="):
            said = word.removeprefix(f"{flag}=")
    return said == value
