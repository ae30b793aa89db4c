"""The way from the command to a node: what is asked for, else what is configured.

The rule: a configuration that holds something wrong is no reason not to reach a node; a node's own
start refuses it.
"""

from __future__ import annotations

from spear import config as configuration
from spear.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from spear.records.node import Node

    Dial = Callable[[str | None, str | None], AbstractAsyncContextManager[Node]]


def dial_client(address: str | None, path: str | None) -> AbstractAsyncContextManager[Node]:
    """The node at the address, else the one of the configuration (file `path`)."""
    from spear.client.client import Client

    defaults = {"node_name": Clock().host_name()}
    return Client(address, config=configuration.load(path, defaults=defaults, refusals=[]))
