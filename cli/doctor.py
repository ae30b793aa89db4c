"""`spear doctor`: what this machine offers, what is missing and how to get it; or the same of one
module.

The rule: every line is a Finding, so table and JSON show the same; a probe that fails is a
finding, never an error.
"""

from __future__ import annotations

from spear.cli import exits, terminal
from spear.cli.finding import Finding

_MARKS = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}


def main(file: str | None, *, as_json: bool) -> int:
    """Prints the findings; FAILED if something needed is missing."""
    findings = _findings(file)
    text = _json(findings) if as_json else _table(findings)
    if terminal.is_terminal(terminal.STDOUT):
        text = terminal.escape(text)  # names in a module are anybody's
    terminal.write(terminal.STDOUT, text.encode("utf-8", "backslashreplace"))
    missing = any(finding.verdict == "missing" for finding in findings)
    return exits.FAILED if missing else exits.OK


def _findings(file: str | None) -> list[Finding]:
    if file is None:
        from spear.cli.doctor_machine import machine_findings

        return machine_findings()
    from spear.cli.doctor_module import module_findings

    return module_findings(file)


def _table(findings: list[Finding]) -> str:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.verdict]}  {finding.name.ljust(width)}  {finding.found}\n")
        if finding.advice:
            lines.append(f"{' ' * (width + 11)}-> {finding.advice}\n")
    return "".join(lines)


def _json(findings: list[Finding]) -> str:
    import json

    return json.dumps([finding._asdict() for finding in findings], indent=2) + "\n"
