"""`spear doctor`: what this machine offers, what is missing and how to get it; or the same of one
module.

The rule: every line is a Finding, so table and JSON show the same; a probe that fails is a
finding, never an error. Findings are wrapped here, so a probe may say as much as it has to.
"""

from __future__ import annotations

import click

from spear.cli import exits, terminal
from spear.cli.verbs.machine.finding import Finding
from spear.cli.visits.options import CONFIG, OUTPUT

_MARKS = {"ok": "ok     ", "note": "note   ", "missing": "MISSING", "refused": "REFUSED"}
_COLUMNS = 100


@click.command()
@click.argument("file", required=False, type=click.Path())
@CONFIG
@OUTPUT
@click.pass_context
def command(context: click.Context, file: str | None, path: str | None, output: str) -> None:
    """Show what this machine offers, what is missing and how to get it, and whether a node runs.

    With FILE.wasm: what that module is, what it needs, and whether it can run here.
    """
    context.exit(main(file, path, as_json=output == "json"))


def main(file: str | None, config_path: str | None, *, as_json: bool) -> int:
    """Prints the findings; FAILED if something needed is missing or refused. Raises NotFound or
    InvalidArgument where FILE, or the configuration file asked for, cannot be read."""
    findings = _findings(file, config_path)
    text = _json(findings) if as_json else _table(findings)
    if terminal.is_terminal(terminal.STDOUT):
        text = terminal.escape(text)  # names in a module are anybody's
    terminal.write(terminal.STDOUT, text.encode("utf-8", "backslashreplace"))
    failed = any(finding.verdict in ("missing", "refused") for finding in findings)
    return exits.FAILED if failed else exits.OK


def _findings(file: str | None, config_path: str | None) -> list[Finding]:
    if file is None:
        from spear.cli.verbs.machine.doctor_machine import machine_findings

        return machine_findings(config_path)
    from spear.cli.verbs.machine.doctor_module import module_findings

    return module_findings(file, config_path)


def _table(findings: list[Finding]) -> str:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        first = f"{_MARKS[finding.verdict]}  {finding.name.ljust(width)}  "
        lines.append(_wrapped(finding.found, first))
        if finding.advice:
            lines.append(_wrapped(finding.advice, f"{' ' * (width + 11)}-> "))
    return "".join(lines)


def _wrapped(text: str, first: str) -> str:
    """The text behind `first`, its further lines under its own beginning; a newline within it
    (names in a module are anybody's) begins none."""
    import textwrap

    lines = textwrap.wrap(
        text, max(_COLUMNS, len(first) + 40), initial_indent=first,
        subsequent_indent=" " * len(first), break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def _json(findings: list[Finding]) -> str:
    import json

    return json.dumps([finding._asdict() for finding in findings], indent=2) + "\n"
