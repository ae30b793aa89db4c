"""`spear config show`: the effective settings and where each came from."""

from __future__ import annotations

from spear import config as configuration
from spear.cli import exits, terminal
from spear.clock import Clock


def show(path: str | None, *, as_json: bool) -> int:
    """Prints every setting. Raises InvalidArgument where the configuration is not valid."""
    config = configuration.load(path, defaults={"node_name": Clock().host_name()})
    rows = config.rows()
    text = _json(rows) if as_json else _table(rows)
    terminal.write(terminal.STDOUT, text.encode("utf-8", "replace"))
    return exits.OK


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    shown = [("KEY", "VALUE", "FROM", "MEANING"), *rows]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    return "".join(
        "  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]) + "\n" for row in shown
    )


def _json(rows: list[tuple[str, str, str, str]]) -> str:
    import json

    settings = {key: {"value": value, "source": source} for key, value, source, _ in rows}
    return json.dumps(settings, indent=2) + "\n"
