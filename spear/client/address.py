"""Where a client finds its node, and what it shows there.

The rule: what the caller says counts, then the configuration: its socket where that is there, else
its gRPC address. A token goes only where it is wanted: over TCP, and off this machine only by TLS.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from spear.errors import NotFound, SpearError
from spear.protocol.sockets import Address, parse
from spear.security.access import REMOTE, origin_of
from spear.security.tokens import read_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config import Config


class Target(NamedTuple):
    """One place to try. `ca_path`: who signs its certificate; "": as the system says."""

    address: Address
    token: str = ""
    tls: bool = False
    ca_path: str = ""


def targets(address: str | None, token: str | None, ca: str | None, config: Config) -> list[Target]:
    """The places to try, in order; never none. Raises InvalidArgument for an address that is
    none, and what reading the token raises where it cannot be done without."""
    if address is not None:
        return [_target(parse(address), token, ca, config)]
    found = []
    if os.path.exists(config.socket_path):
        found.append(_target(parse(f"unix:{config.socket_path}"), token, ca, config))
    return [*found, _target(parse(config.grpc_address), token, ca, config)]


def absent(address: str | None, config: Config) -> list[str]:
    """What is to be said of a place that is not among the targets."""
    if address is not None or os.path.exists(config.socket_path):
        return []
    return [f"no node answers at unix:{config.socket_path}: there is no such socket"]


def _target(address: Address, token: str | None, ca: str | None, config: Config) -> Target:
    if address.path:
        return Target(address)
    own = address == parse(config.grpc_address)
    tls = origin_of(address.host) == REMOTE or ca is not None or (own and config.grpc_tls)
    ca_path = ca or (config.cert_path if own and config.grpc_tls else None) or ""
    return Target(address, _token(token, config), tls, ca_path)


def _token(token: str | None, config: Config) -> str:
    """The one given, else that of the node's file. Without one the call is tried all the same: a
    node with `auth.loopback = "open"` wants none, and others say what they want."""
    if token is not None:
        return token
    try:
        return read_token(config.token_path)
    except (NotFound, SpearError):
        return ""
