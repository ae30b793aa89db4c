"""The files of TLS: read once at start, and refused there if they cannot serve.

The rule: a private key that others can read is refused, and so is a file given for nothing.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from spear.errors import InvalidArgument, PermissionDenied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config import Config


class TlsFiles(NamedTuple):
    """What a TLS server shows, and whose clients it wants (empty: any). PEM."""

    certificates: bytes
    key: bytes
    client_ca: bytes


def read_tls(config: Config) -> TlsFiles | None:
    """The files of `grpc.*`; None without TLS. Raises InvalidArgument, PermissionDenied."""
    named = {
        "grpc.cert_path": config.cert_path,
        "grpc.key_path": config.key_path,
        "grpc.client_ca_path": config.client_ca_path,
    }
    if not config.grpc_tls:
        for key, path in named.items():
            if path:
                raise InvalidArgument(f"{key} is given, but grpc.enable_tls is false")
        return None
    for key in ("grpc.cert_path", "grpc.key_path"):
        if not named[key]:
            raise InvalidArgument(f"grpc.enable_tls needs {key}")
    certificates, private, client_ca = (_read(key, path) for key, path in named.items())
    _check_pair(config)
    return TlsFiles(certificates, private, client_ca)


def _read(key: str, path: str | None) -> bytes:
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except OSError as error:
        raise InvalidArgument(f"{key}: cannot read {path!r}: {error.strerror}") from error
    if key == "grpc.key_path" and stat.S_IMODE(mode) & 0o007:
        raise PermissionDenied(
            f"{key}: {path!r} is open to everybody (mode {stat.S_IMODE(mode):04o}): chmod 600 it"
        )
    return content


def _check_pair(config: Config) -> None:
    """gRPC says only that it could not bind; OpenSSL says what is wrong."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(config.cert_path), str(config.key_path), password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise InvalidArgument(
            f"grpc.cert_path {config.cert_path!r} and grpc.key_path {config.key_path!r} do not "
            f"serve TLS: {error}"
        ) from error
    if config.client_ca_path:
        try:
            context.load_verify_locations(config.client_ca_path)
        except (ssl.SSLError, OSError) as error:
            raise InvalidArgument(
                f"grpc.client_ca_path {config.client_ca_path!r} holds no certificates: {error}"
            ) from error


def _no_password() -> str:
    """A key under a passphrase would have the terminal asked for it."""
    raise InvalidArgument("grpc.key_path is under a passphrase, which a daemon cannot be asked for")
