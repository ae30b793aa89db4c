"""Package `spearlet` against the contract's tables: every name and every number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from spear.protocol.pb.spear.v1 import (
    artifact_pb2,
    execution_pb2,
    instance_pb2,
    model_pb2,
    node_pb2,
    object_pb2,
    schedule_pb2,
    task_pb2,
)
from spear.protocol.pb.spearlet import function_pb2, router_filter_pb2
from spear.protocol.pb.spearlet import instance_pb2 as spearlet_instance_pb2
from spear.protocol.pb.spearlet import object_pb2 as spearlet_object_pb2

TABLES = (Path(__file__).parent / "spearlet_tables.md").read_text()
FILES = {
    "function": function_pb2.DESCRIPTOR,
    "instance": spearlet_instance_pb2.DESCRIPTOR,
    "object": spearlet_object_pb2.DESCRIPTOR,
    "router_filter": router_filter_pb2.DESCRIPTOR,
}
OURS = 100  # the first number of a field that we added


def section(name: str) -> str:
    _, _, rest = TABLES.partition(f"### spearlet/{name}.proto")
    return rest.partition("\n### ")[0]


def table_services(text: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Service to method to (request, response); `stream ` stands before what is streamed."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in text.splitlines():
        if match := re.match(r"\*\*service `(\w+)`\*\*", line):
            found[match[1]] = current = {}
        elif match := re.match(r"- rpc `(\w+)`\((.+?)\) → (.+)", line):
            current[match[1]] = (match[2], match[3])
    return found


def table_items(text: str, heading: str) -> Iterator[tuple[str, str]]:
    block = re.search(rf"\*\*{heading}\*\*.*?\n((?:- .*\n?)+)", text)
    for line in block[1].splitlines() if block else ():
        match = re.match(r"- `(\w+)`: (.*)", line)
        assert match, line
        yield match[1], match[2]


def table_enums(text: str) -> dict[str, dict[str, int]]:
    return {
        name: {word: int(number) for number, word in (v.split() for v in values.split(", "))}
        for name, values in table_items(text, "enums")
    }


def table_messages(text: str) -> dict[str, dict[str, tuple[int, str]]]:
    found = {}
    for name, fields in table_items(text, "messages"):
        rows = re.findall(r"(\d+) (\w+): ([^;]+)(?:; |$)", fields)
        assert len(rows) == fields.count(";") + 1, fields
        found[name] = {field: (int(number), kind) for number, field, kind in rows}
    return found


def type_name(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{type_name(key)},{type_name(value)}>"
    if field.message_type is not None:
        full = field.message_type.full_name
        name = f"gp.{field.message_type.name}" if full.startswith("google.") else (
            field.message_type.name
        )  # fmt: skip
    elif field.enum_type is not None:
        name = field.enum_type.name
    else:
        types = {v: k for k, v in vars(FieldDescriptor).items() if k.startswith("TYPE_")}
        name = types[field.type].removeprefix("TYPE_").lower()
    if field.has_presence and field.message_type is None:
        return f"optional {name}"
    return f"repeated {name}" if field.is_repeated else name


def file_services(file: FileDescriptor) -> dict[str, dict[str, tuple[str, str]]]:
    return {
        service.name: {
            m.name: (
                "stream " * m.client_streaming + m.input_type.name,
                "stream " * m.server_streaming + m.output_type.name,
            )
            for m in service.methods
        }
        for service in file.services_by_name.values()
    }


def file_enum(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


def file_message(message: Descriptor, numbers: range) -> dict[str, tuple[int, str]]:
    return {f.name: (f.number, type_name(f)) for f in message.fields if f.number in numbers}


@pytest.mark.parametrize("name", FILES)
def test_the_frozen_package_has_the_names_and_numbers_of_the_contract(name: str) -> None:
    file, text = FILES[name], section(name)
    assert (file.name, file.package) == (f"spearlet/{name}.proto", "spearlet")
    assert file_services(file) == table_services(text) != {}
    assert {n: file_enum(e) for n, e in file.enum_types_by_name.items()} == table_enums(text)
    frozen = {n: file_message(m, range(OURS)) for n, m in file.message_types_by_name.items()}
    assert frozen == table_messages(text) != {}


def test_the_tables_are_read_whole() -> None:
    """A reader that skips lines would let names slip through."""
    for name in FILES:
        text = section(name)
        rows = len(re.findall(r"^- ", text, re.MULTILINE))
        methods = sum(len(methods) for methods in table_services(text).values())
        assert rows == methods + len(table_enums(text)) + len(table_messages(text))


WANTED = {
    "ArtifactService": "Put Get Stat List Delete",
    "TaskService": "Register Update Get List SetStatus Unregister",
    "ExecutionService": "Submit Invoke Get List Wait Watch Cancel Remove ReadResult Logs",
    "InstanceService": "List Destroy",
    "ObjectService": (
        "Put Get Write Read Stat List Delete AddRef RemoveRef Pin Unpin Watch Snapshot Transact"
    ),
    "ScheduleService": "Add Get List Remove",
    "ModelService": "List Test",
    "NodeService": "Info Stats Drain CollectGarbage Backup",
}
STREAMS = {
    ("ArtifactService", "Put"): (True, False),
    ("ArtifactService", "Get"): (False, True),
    ("ExecutionService", "Watch"): (False, True),
    ("ExecutionService", "ReadResult"): (False, True),
    ("ExecutionService", "Logs"): (False, True),
    ("ObjectService", "Watch"): (False, True),
    ("ObjectService", "Snapshot"): (False, True),
    ("ObjectService", "Put"): (True, False),
    ("ObjectService", "Get"): (False, True),
}


def test_the_services_of_spear_v1_are_the_ones_that_clients_know() -> None:
    modules = (artifact_pb2, execution_pb2, instance_pb2, model_pb2, node_pb2, object_pb2,
               schedule_pb2, task_pb2)  # fmt: skip
    services = {
        service.full_name: service
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    assert {n: " ".join(m.name for m in s.methods) for n, s in services.items()} == {
        f"spear.v1.{name}": methods for name, methods in WANTED.items()
    }
    assert {
        (s.name, m.name): (m.client_streaming, m.server_streaming)
        for s in services.values()
        for m in s.methods
        if m.client_streaming or m.server_streaming
    } == STREAMS
