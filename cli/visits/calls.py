"""What one call of a task is given by the command line.

The rule: the options of `submit`, `invoke` and `schedule add` are the same, and become one
Invocation here; but a schedule has no key, as each of its runs gets one of its own, and who waits
with `invoke` needs no webhook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from spear.cli.arguments import UsageError
from spear.cli.running import inputs
from spear.cli.visits.options import duration_ns
from spear.records.execution import Invocation
from spear.records.task import PRIORITIES

_OPTIONS = (
    click.option("--env", "env", metavar="NAME=VALUE", multiple=True,
                 help="A variable of the guest's environment, over the task's."),
    click.option("--timeout", metavar="DURATION", help="Wall time, such as 250ms, 5s, 2m."),
    click.option("--priority", type=click.Choice(PRIORITIES),
                 help="Which of those that wait goes first (default: as the task says)."),
    click.option("--function", metavar="NAME", default="",
                 help="Of a library: the function to call; ARGS are its numbers."),
)  # fmt: skip
key_option = click.option(
    "--key", metavar="TEXT", default="",
    help="Idempotency key: the same key twice is the same execution.",
)  # fmt: skip
webhook_option = click.option(
    "--webhook", metavar="URL", default="", help="Told of each end, by a POST of its record.",
)  # fmt: skip


def call_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def invocation_of(
    args: tuple[str, ...], *, env: tuple[str, ...], timeout: str | None, priority: str | None,
    function: str, key: str = "", execution_id: str = "", webhook: str = "",
) -> Invocation:  # fmt: skip
    """Raises UsageError, InvalidArgument."""
    return Invocation(
        function=function,
        call_args=tuple(_number(arg) for arg in args) if function else (),
        args=args if args and not function else None,
        env=inputs.environment(env),
        timeout_ns=duration_ns("--timeout", timeout) if timeout else 0,
        priority=priority or "",
        idempotency_key=key,
        execution_id=execution_id,
        webhook=webhook,
    )


def _number(text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise UsageError(f"with --function, arguments are numbers, not {text!r}")
