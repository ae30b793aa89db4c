"""Errors of models without secrets.

The rule: an error that goes to a caller has been through here, with all that led to it: an upstream
may say anything in its errors, also the key that it was sent.
"""

from __future__ import annotations

from spear.errors import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.telemetry.redact import Redactor


def scrub(error: ModelError, redactor: Redactor) -> None:
    """Where what led to it names a secret, that is cut off."""
    if not redactor:
        return
    error.args = tuple(redactor.text(str(part)) for part in error.args)
    error.code = redactor.text(error.code)
    if _names_a_secret(error, redactor):
        error.__cause__ = error.__context__ = None
        error.__suppress_context__ = True


def _names_a_secret(error: BaseException, redactor: Redactor) -> bool:
    seen: set[int] = set()
    links = [error.__cause__, error.__context__]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        said = f"{link} {link!r} {vars(link)}"
        if redactor.text(said) != said:
            return True
        links += [link.__cause__, link.__context__]
    return False
