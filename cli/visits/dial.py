"""The way from the command to a node: what is asked for, else what is configured.

The rule: a configuration that holds something wrong is no reason not to reach a node; a node's own
start refuses it. What the environment says of a node elsewhere is for one that is named.
"""

from __future__ import annotations

from typing import NamedTuple

from spear import config as configuration
from spear.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from spear.records.node import Node

    Dial = Callable[["Where"], AbstractAsyncContextManager[Node]]


class Where(NamedTuple):
    """Which node, and what it takes to be let in there. `config`: the file of the configuration;
    `ca`: a file with who signs the node's certificate; `token_file`: instead of this node's."""

    address: str | None = None
    config: str | None = None
    ca: str | None = None
    token_file: str | None = None


def dial_client(where: Where) -> AbstractAsyncContextManager[Node]:
    """The node at the address, else the one of the configuration. Raises NotFound,
    PermissionDenied, InvalidArgument for a token file that is named and gives none."""
    from spear.client.client import Client
    from spear.security.tokens import read_token

    environ = configuration.environment() if where.address else {}
    token_file = where.token_file or environ.get("SPEAR_TOKEN_FILE")
    configuration.settle_grpc()
    return Client(
        where.address,
        token=read_token(token_file) if token_file else None,
        ca=where.ca or environ.get("SPEAR_CA") or None,
        config=configuration.load(
            where.config, defaults={"node_name": Clock().host_name()}, refusals=[]
        ),
    )
