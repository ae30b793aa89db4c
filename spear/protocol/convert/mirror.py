"""Records to protobuf messages of the same shape, and back.

The rule: a message of `spear.v1` has the fields of its record under the same names, so one
converter serves all; what differs in shape has a Part. A field whose default in the record is not
zero is `optional` in the message: absent, it is at that default. Bytes are written and read at once
where the record is plain, and by way of the message where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from spear._core.protofields import Field, Fields
from spear.errors import InvalidArgument
from spear.protocol.pb.spear.v1.value_pb2 import Number, Texts

R = TypeVar("R", bound=msgspec.Struct)
M = TypeVar("M", bound=Message)


_KINDS = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_ENUM: "int32",
    FieldDescriptor.TYPE_BOOL: "bool",
}


class Part(Protocol):
    """How one field that is more than a scalar lies in a message."""

    def put(self, message: Any, name: str, value: Any) -> None: ...
    def take(self, message: Any, name: str) -> Any: ...


class Mirror(Generic[R, M]):
    """Converts between one type of record and one type of message."""

    def __init__(
        self, record: type[R], message: type[M], parts: Mapping[str, Part] | None = None
    ) -> None:
        self.type, self.kind = record, message
        self._parts = list((parts or {}).items())
        plain = [name for name in record.__struct_fields__ if name not in (parts or {})]
        descriptor = message.DESCRIPTOR.fields_by_name
        # With presence: what they are where absent is the record's own default.
        self.optional = [name for name in plain if descriptor[name].has_presence]
        self._always = [name for name in plain if name not in self.optional]
        self._defaults = {f.name: f.default for f in msgspec.structs.fields(record)}
        self._required = {f.name for f in msgspec.structs.fields(record) if f.required}
        self._values: Callable[[Any], Sequence[Any]] = several(self._always)
        fields = [self._field(descriptor[name]) for name in record.__struct_fields__]
        self.fields = Fields(record, fields)

    def _field(self, field: Any) -> Field:
        part = dict(self._parts).get(field.name)
        kind, inner = _KINDS.get(field.type, "other"), None
        if part is not None:
            kind = "other"
        if isinstance(part, One):
            kind, inner = "record", part.mirror.fields
        return Field(
            field.name,
            field.number,
            kind,
            field.has_presence,
            self._defaults[field.name],
            field.name in self._required,
            field.containing_oneof.name if field.containing_oneof else "",
            inner,
        )

    def encode(self, record: R) -> bytes:
        """The message of a record as bytes. Raises InvalidArgument as `message`."""
        data = self.fields.encode(record)
        return self.slow_message(record).SerializeToString() if data is None else data

    def decode(self, data: bytes) -> R:
        """The record in the bytes of a message. Raises InvalidArgument as `record`, DecodeError."""
        found: R | None = self.fields.decode(data)
        return self.slow_record(self.kind.FromString(data)) if found is None else found

    def message(self, record: R) -> M:
        """Raises InvalidArgument where a value does not fit the field's type."""
        data = self.fields.encode(record)
        return self.slow_message(record) if data is None else self.kind.FromString(data)

    def record(self, message: M) -> R:
        """Raises InvalidArgument where a record in it, that this one must have, is absent."""
        found: R | None = self.fields.decode(message.SerializeToString())
        return self.slow_record(message) if found is None else found

    def slow_message(self, record: R) -> M:
        """As `message`, field by field: for all that is not plain."""
        made = self.kind()
        name = ""
        try:
            for name in self._always:
                if value := getattr(record, name):
                    setattr(made, name, value)
            for name in self.optional:
                if (value := getattr(record, name)) is not None:
                    setattr(made, name, value)
            for name, part in self._parts:
                part.put(made, name, getattr(record, name))
        except (ValueError, TypeError, UnicodeError) as error:
            raise InvalidArgument(
                f"{self.type.__name__}.{name} does not fit its place in a message: {error}"
            ) from error
        return made

    def slow_record(self, message: M) -> R:
        """As `record`, field by field: for all that is not plain."""
        fields = dict(zip(self._always, self._values(message), strict=True))
        for name in self.optional:
            if message.HasField(name):
                fields[name] = getattr(message, name)
        for name, part in self._parts:
            value = part.take(message, name)
            if value is not None:
                fields[name] = value
            elif name in self._required:
                raise InvalidArgument(f"{self.type.__name__}.{name} is missing in the message")
        return self.type(**fields)

    def messages(self, records: Iterable[R]) -> list[M]:
        return [self.message(record) for record in records]

    def records(self, messages: Iterable[M]) -> tuple[R, ...]:
        return tuple(self.record(message) for message in messages)


def several(names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """The values of these attributes; attrgetter alone gives no tuple for one."""
    if len(names) < 2:
        return lambda source: tuple(getattr(source, name) for name in names)
    return attrgetter(*names)


class One:
    """A record in a record; absent is None, so the default."""

    def __init__(self, mirror: Mirror[Any, Any]) -> None:
        self.mirror = mirror

    def put(self, message: Any, name: str, value: Any) -> None:
        if value is not None:
            getattr(message, name).CopyFrom(self.mirror.message(value))

    def take(self, message: Any, name: str) -> Any:
        return self.mirror.record(getattr(message, name)) if message.HasField(name) else None


class Many:
    """A tuple of records."""

    def __init__(self, mirror: Mirror[Any, Any]) -> None:
        self._mirror = mirror

    def put(self, message: Any, name: str, value: Any) -> None:
        if value:
            getattr(message, name).extend(self._mirror.messages(value))

    def take(self, message: Any, name: str) -> Any:
        return self._mirror.records(getattr(message, name))


class _Strings:
    """A tuple of text."""

    def put(self, message: Any, name: str, value: Any) -> None:
        if value:
            getattr(message, name).extend(value)

    def take(self, message: Any, name: str) -> Any:
        return tuple(getattr(message, name))


class _Map:
    """A dict of scalars."""

    def put(self, message: Any, name: str, value: Any) -> None:
        if value:
            getattr(message, name).update(value)

    def take(self, message: Any, name: str) -> Any:
        found = getattr(message, name)
        return dict(found) if found else None


class _Texts:
    """A tuple of text where absent, so None, and empty differ."""

    def put(self, message: Any, name: str, value: Any) -> None:
        if value is not None:
            getattr(message, name).CopyFrom(Texts(values=value))

    def take(self, message: Any, name: str) -> Any:
        return tuple(getattr(message, name).values) if message.HasField(name) else None


class _Numbers:
    """A tuple of ints and floats, the types kept."""

    def put(self, message: Any, name: str, value: Any) -> None:
        if value:
            getattr(message, name).extend([number_message(number) for number in value])

    def take(self, message: Any, name: str) -> Any:
        return tuple(number_value(number) for number in getattr(message, name))


STRINGS, MAP, TEXTS, NUMBERS = _Strings(), _Map(), _Texts(), _Numbers()


def number_message(value: int | float) -> Number:
    if isinstance(value, float):
        return Number(real=value)
    return Number(signed=value) if value < 1 << 63 else Number(unsigned=value)


def number_value(number: Number) -> int | float:
    """Raises InvalidArgument for one that is neither kind: a newer peer's."""
    kind = number.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument("a number in the message is of a kind that is not known here")
    value: int | float = getattr(number, kind)
    return value
