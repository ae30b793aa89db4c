"""Calls by gRPC: to a node elsewhere.

The rule: imported only when such a call is made, since grpc costs more to import than all else of
a client; what the node says is the same as by frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
from google.rpc.status_pb2 import Status

from spear.client.address import Target
from spear.client.caller import Lost
from spear.errors import InvalidArgument, SpearError, Unreachable
from spear.protocol.sockets import reason_of
from spear.protocol.status import error_of, plain_status

MESSAGE_BYTES_MAX: Final = 64 << 20
CONNECT_S: Final = 10.0
_DETAILS: Final = "grpc-status-details-bin"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),  # what may be tried again is the client's to say
)


async def connect(target: Target) -> GrpcCaller:
    """Raises Unreachable, InvalidArgument (a CA file that cannot be read)."""
    host, port = target.address.host, target.address.port
    try:  # gRPC would try again and again, and not say why
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
        writer.close()
    except TimeoutError as error:
        sentence = f"no node answers at {target.address}: nothing within {CONNECT_S:g} s"
        raise Unreachable(sentence) from error
    except OSError as error:
        raise Unreachable(f"no node answers at {target.address}: {reason_of(error)}") from error
    return GrpcCaller(_channel(target), target)


def _channel(target: Target) -> grpc.aio.Channel:
    if not target.tls:
        return grpc.aio.insecure_channel(str(target.address), options=_OPTIONS)
    roots = None
    if target.ca_path:
        try:
            with open(target.ca_path, "rb") as file:
                roots = file.read()
        except OSError as error:
            raise InvalidArgument(f"cannot read {target.ca_path!r}: {error.strerror}") from error
    credentials = grpc.ssl_channel_credentials(roots)
    return grpc.aio.secure_channel(str(target.address), credentials, options=_OPTIONS)


class GrpcCaller:
    """Over a channel, which it owns."""

    def __init__(self, channel: grpc.aio.Channel, target: Target) -> None:
        self._channel, self._target = channel, target
        self._methods: dict[str, Any] = {}
        self._metadata = (("authorization", f"Bearer {target.token}"),) if target.token else ()
        self.gone = False

    async def call(self, path: str, request: bytes, deadline_ms: int) -> bytes:
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        timeout_s = deadline_ms / 1000 if deadline_ms else None
        try:
            answer: bytes = await method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None
        return answer

    async def receive(self, path: str, request: bytes) -> AsyncGenerator[bytes, None]:
        method: Any = self._channel.unary_stream(path)
        stream = method(request, metadata=self._metadata)
        try:
            async for message in stream:
                yield message
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None
        finally:
            stream.cancel()

    async def send(self, path: str, requests: AsyncIterator[bytes]) -> bytes:
        failed: list[BaseException] = []

        async def watched() -> AsyncGenerator[bytes, None]:
            """gRPC would swallow what goes wrong while the requests are made."""
            try:
                async for request in requests:
                    yield request
            except BaseException as error:
                failed.append(error)
                raise

        method: Any = self._channel.stream_unary(path)
        try:
            answer: bytes = await method(watched(), metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise (failed[0] if failed else _error(error)) from None
        except asyncio.CancelledError:
            if failed and isinstance(failed[0], Exception):
                raise failed[0] from None
            raise
        return answer

    async def close(self) -> None:
        self.gone = True
        await self._channel.close()


def _error(error: grpc.aio.AioRpcError) -> SpearError:
    """The error that the node sent, or what gRPC itself says."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            return error_of(Status.FromString(value))
    sentence = error.details() or "no reason was given"
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return Lost(f"the connection to the node broke: {sentence}")
    return error_of(plain_status(error.code().name, sentence))
