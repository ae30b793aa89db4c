"""Who may call: the rules of every door, in one table.

The rule: pure; a door says where a caller comes from and what it showed, this says whether it is
let in. Nothing but health answers without credentials, reflection included.
"""

from __future__ import annotations

import ipaddress

from spear.errors import InvalidArgument, PermissionDenied, SpearError, Unauthenticated
from spear.security.tokens import Token

# Where a caller comes from -> what it shows to be let in.
UNIX, LOOPBACK, REMOTE = "unix", "loopback", "remote"
UID, TOKEN, NOTHING = "uid", "token", "nothing"
SHOWS = {UNIX: UID, LOOPBACK: TOKEN, REMOTE: TOKEN}
FREE_PREFIXES = ("/grpc.health.v1.Health/",)
_ROOT_UID = 0


class Access:
    """The rules of one node. `uid` is the daemon's own user; with `loopback_open` callers on
    loopback need show nothing."""

    def __init__(self, *, uid: int, token: Token, loopback_open: bool) -> None:
        self._uid, self._token = uid, token
        self._shows = {**SHOWS, LOOPBACK: NOTHING} if loopback_open else SHOWS

    def refusal(self, origin: str, *, uid: int = -1, token: str = "") -> SpearError | None:
        """Why the caller is not let in; None if it is. `uid` is its user on a Unix socket."""
        shows = self._shows[origin]
        if shows == UID:
            return None if uid in (self._uid, _ROOT_UID) else _stranger(uid, self._uid)
        if shows == TOKEN and not self._token.matches(token):
            return _missing()
        return None

    def header_refusal(self, origin: str, header: str) -> SpearError | None:
        """The same for a caller that shows its token as an `authorization` header."""
        if self._shows[origin] == TOKEN:
            return None if self._token.matches_bearer(header) else _missing()
        return self.refusal(origin)


def is_free(method_path: str) -> bool:
    """Whether the gRPC method answers to everybody."""
    return method_path.startswith(FREE_PREFIXES)


def origin_of(host: str) -> str:
    """LOOPBACK or REMOTE; a name that is not `localhost` is remote, whatever it resolves to."""
    if host == "localhost":
        return LOOPBACK
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return REMOTE
    mapped = getattr(address, "ipv4_mapped", None)
    return LOOPBACK if (mapped or address).is_loopback else REMOTE


def check_listener(key: str, host: str, *, tls: bool) -> None:
    """Raises InvalidArgument where a port there would carry the token in the clear; `key` is the
    setting that asked for it."""
    if origin_of(host) == REMOTE and not tls:
        raise InvalidArgument(
            f"{key}: {host!r} is not loopback, and without TLS the token could be read on the way: "
            "set grpc.enable_tls, grpc.cert_path and grpc.key_path, or listen on 127.0.0.1"
        )


def _missing() -> SpearError:
    return Unauthenticated(
        "this needs the node's token: send it as metadata 'authorization: Bearer TOKEN' (frames: "
        "in hello); it is in the file named by auth.token_file, by default in the data directory"
    )


def _stranger(uid: int, own: int) -> SpearError:
    return PermissionDenied(f"user {uid} may not use the socket of user {own}")
