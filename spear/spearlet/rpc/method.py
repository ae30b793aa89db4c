"""One method of a service, as both doors see it: its path, its messages, its handler.

The rule: a handler takes the node and a request and gives a response; it knows of no door, and it
fails with an error of spear.errors.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from google.protobuf.message import DecodeError, Message

from spear._core.framing import FRAME_BYTES_MAX
from spear._core.protofields import Fields
from spear.errors import InvalidArgument
from spear.protocol.convert.mirror import Mirror
from spear.records.node import Node, PromptNode

T = TypeVar("T")
Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
R = TypeVar("R", bound=msgspec.Struct)
S = TypeVar("S", bound=msgspec.Struct)

UNARY, SERVER_STREAM, CLIENT_STREAM = "unary", "server_stream", "client_stream"


class Method(NamedTuple):
    """`handler` is, by `kind`: request to awaitable response; request to async iterator of
    responses; async iterator of requests to awaitable response. A `prompt` one may be begun
    without a task, on a node that allows it: nothing in it asks which task it is in, as timeouts
    do; `at_once` is its handler there, which may give a list of futures that are told of the
    response (see servedcalls). `read` and `write` are of the handler's requests and responses:
    messages, or records, which `plain` reads and writes where they are plain (a response only up
    to `plain_bytes_max`)."""

    kind: str
    request: type[Message]
    response: type[Message]
    handler: Callable[[Node, Any], Any]
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    prompt: bool = False
    at_once: Callable[[PromptNode, Any], Any] | None = None
    plain: tuple[Fields, Fields] | None = None
    plain_bytes_max: int = FRAME_BYTES_MAX


def unary(
    request: type[Q], response: type[A], handler: Callable[[Node, Q], Awaitable[A]], *,
    prompt: bool = False,
) -> Method:  # fmt: skip
    return Method(
        UNARY, request, response, handler, request.FromString, response.SerializeToString, prompt
    )


def recorded(
    request: Mirror[R, Q], response: Mirror[S, A], handler: Callable[[Node, R], Awaitable[S]]
) -> Method:
    """A prompt unary method of records."""
    return Method(
        UNARY, request.kind, response.kind, handler, request.decode, response.encode, True,
        plain=(request.fields, response.fields),
    )  # fmt: skip


def server_stream(
    request: type[Q], response: type[A], handler: Callable[[Node, Q], AsyncIterator[A]]
) -> Method:
    return Method(
        SERVER_STREAM, request, response, handler, request.FromString, response.SerializeToString
    )


def client_stream(
    request: type[Q],
    response: type[A],
    handler: Callable[[Node, AsyncIterator[Q]], Awaitable[A]],
) -> Method:
    return Method(
        CLIENT_STREAM, request, response, handler, request.FromString, response.SerializeToString
    )


def service(name: str, methods: Mapping[str, Method]) -> dict[str, Method]:
    """The methods by their full gRPC paths."""
    return {f"/{name}/{method}": made for method, made in methods.items()}


def parse(method: Method, data: bytes) -> Any:
    """The request in these bytes. Raises InvalidArgument."""
    try:
        return method.read(data)
    except DecodeError as error:
        raise unreadable(method, error) from error


def unreadable(method: Method, error: DecodeError) -> InvalidArgument:
    return InvalidArgument(f"the request is no {method.request.DESCRIPTOR.full_name}: {error}")


def closing(stream: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """Ends the stream's generator with the block, also where its reader gives up between two
    values: what it holds is let go then, and not at some later time."""
    return aclosing(cast("AsyncGenerator[T, None]", stream))
