"""What `spear object export` wrote comes back by `spear object import`: all of it, or nothing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cli_over_fake import Cli, cli_fixture  # noqa: F401
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spear.cli import terminal
from spear.cli.visits import importing, unarchive
from spear.cli.visits.archive import checksum
from spear.errors import InvalidArgument, StoreFull, Unreachable

VALUES = {
    "shared/a": b"", "shared/b/\u00fc": b"\0" * 512, "shared/c" * 40: b"c" * 100_001,
    "shared/d/": b"1", "shared/e\0f": b"2" * 1023, "/task/g": b"\0" * 1024, "%2F=": b"4",
}  # fmt: skip
ARCHIVE = "all.tar"


def fill(cli: Cli) -> None:
    for number, (key, value) in enumerate(VALUES.items()):
        metadata = {"a=b%": key, "\u00fc\n": "x\ny", "spear.x": "=%3D%"} if number % 2 else {}
        cli.do(cli.node.put_object(key, value, metadata=metadata, durable=number % 3 == 0))


def there(cli: Cli) -> dict[str, Any]:
    """By key: value, metadata, durability."""
    found = {}
    for info in cli.do(cli.node.list_objects()).objects:
        value = cli.do(cli.node.get_object(info.key))[1]
        found[info.key] = (value, info.metadata, info.durability)
    return found


def clear(cli: Cli) -> None:
    for info in cli.do(cli.node.list_objects()).objects:
        cli.do(cli.node.delete_object(info.key))


@pytest.fixture
def exported(cli: Cli) -> dict[str, Any]:
    """Lies in ARCHIVE, and is not on the node any more."""
    fill(cli)
    before = there(cli)
    assert cli("object", "export", "-o", ARCHIVE).code == 0
    clear(cli)
    return before


def test_all_comes_back(cli: Cli, exported: dict[str, Any]) -> None:
    said = cli("object", "import", ARCHIVE)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{ARCHIVE}: objects {len(VALUES)}, 100.2 KiB\n"
    assert there(cli) == exported
    assert {one[2] for one in exported.values()} == {"power", "volatile"}


def test_it_is_told_to_programs(cli: Cli, exported: dict[str, Any]) -> None:
    size = sum(map(len, VALUES.values()))
    assert cli("object", "import", ARCHIVE, "--output", "json").json == {
        "file": ARCHIVE, "objects": len(VALUES), "size": size, "left": 0, "failed": [],
    }  # fmt: skip


def test_what_comes_from_a_pipe_is_taken(
    cli: Cli, exported: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(ARCHIVE, "rb") as file:
        monkeypatch.setattr(terminal, "STDIN", file.fileno())
        assert cli("object", "import").out.startswith("-: objects 7, ")
    assert there(cli) == exported
    monkeypatch.setattr(terminal, "STDIN", 0)
    monkeypatch.setattr(terminal, "is_terminal", lambda fd: fd == terminal.STDIN)
    said = cli("object", "import")
    assert (said.code, "does not come from a terminal" in said.err) == (2, True)


def test_of_an_empty_archive_nothing_is_put(cli: Cli) -> None:
    cli("object", "export", "-o", ARCHIVE)
    assert cli("object", "import", ARCHIVE).out == f"{ARCHIVE}: objects 0, 0 bytes\n"


def test_an_archive_that_tar_made_anew_is_taken_with_its_padding(cli: Cli, tmp_path: Path) -> None:
    fill(cli)
    cli("object", "export", "-o", ARCHIVE)
    with (tmp_path / ARCHIVE).open("ab") as file:
        file.write(bytes(10_240 - file.tell() % 10_240))
    clear(cli)
    assert cli("object", "import", ARCHIVE).code == 0


def test_metadata_of_our_names_is_left_out_and_misleads_nobody(cli: Cli) -> None:
    names = ("spear.key", "spear.version", "spear.durability", "spear.sha256")
    cli.do(cli.node.put_object("shared/a", b"1", metadata=dict.fromkeys(names, "power")))
    cli("object", "export", "-o", ARCHIVE)
    clear(cli)
    assert cli("object", "import", ARCHIVE).code == 0
    assert there(cli) == {"shared/a": (b"1", {}, "volatile")}


# What is there already


def test_what_is_there_already_keeps_all_from_being_put(cli: Cli, exported: dict[str, Any]) -> None:
    cli.do(cli.node.put_object("shared/a", b"mine"))
    said = cli("object", "import", ARCHIVE)
    assert (said.code, said.out) == (4, "")
    assert "1 of 7 objects are there already: 'shared/a'; nothing was put" in said.err
    assert "--replace" in said.err
    assert list(there(cli)) == ["shared/a"]
    assert cli("object", "import", ARCHIVE, "--replace").code == 0
    assert there(cli) == exported


def test_one_that_came_between_is_told_with_what_was_put(
    cli: Cli, exported: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        cli_put = cli.node.put_object
        await cli_put("shared/b/\u00fc", b"mine")

    monkeypatch.setattr(importing, "_check_new", nothing)
    said = cli("object", "import", ARCHIVE, "--output", "json")
    assert said.code == 4
    assert (said.json["objects"], said.json["left"]) == (6, 0)
    assert [one["key"] for one in said.json["failed"]] == ["shared/b/\u00fc"]
    assert there(cli)["shared/b/\u00fc"][0] == b"mine"


@pytest.mark.parametrize(("error", "code"), [(StoreFull, 6), (Unreachable, 5)])
def test_where_it_stops_is_told(
    cli: Cli, exported: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Any, code: int
) -> None:
    """What was on its way beside it is not left open."""
    monkeypatch.setattr(importing, "_AT_ONCE", 2)
    real, refused = cli.node.put_object, sorted(exported)[3]

    async def put(key: str, value: bytes, **given: Any) -> Any:
        if key == refused:
            raise error("no (planted)")
        return await real(key, value, **given)

    monkeypatch.setattr(cli.node, "put_object", put)
    said = cli("object", "import", ARCHIVE)
    assert said.code == code
    first, second, third = said.out.splitlines()
    assert "objects 3, " in first
    assert first.endswith("; 4 of 7 are not put")
    assert "no (planted)" in second
    assert third == "the last 3 were not tried; --replace goes over all of them again"
    assert list(there(cli)) == [key for key in sorted(exported)[:4] if key != refused]
    monkeypatch.setattr(cli.node, "put_object", real)
    assert cli("object", "import", ARCHIVE, "--replace").code == 0
    assert there(cli) == exported


def test_a_file_that_changes_under_it_is_told_with_what_was_put(
    cli: Cli, exported: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was about to be put with it nothing is, and nothing says that nothing was."""
    monkeypatch.setattr(importing, "_AT_ONCE", 2)
    real, fourth = cli.node.put_object, sorted(exported)[3]
    with open(ARCHIVE, "rb") as file:
        (at,) = (one.at for one in unarchive.entries(file, ARCHIVE) if one.key == fourth)

    async def put(key: str, value: bytes, **given: Any) -> Any:
        with open(ARCHIVE, "rb+") as file:
            file.seek(at)
            file.write(b"changed")
        return await real(key, value, **given)

    monkeypatch.setattr(cli.node, "put_object", put)
    said = cli("object", "import", ARCHIVE, "--output", "json")
    assert said.code == 2
    assert (said.json["objects"], said.json["left"]) == (3, 3)
    (failed,) = said.json["failed"]
    assert failed["key"] == fourth
    assert "does not match its sha256" in failed["reason"]
    assert "nothing was put" not in failed["reason"]
    assert list(there(cli)) == sorted(exported)[:3]


# What is no such archive


def refused(cli: Cli, data: bytes, reason: str) -> None:
    Path("bad.tar").write_bytes(data)
    said = cli("object", "import", "bad.tar", "--replace")
    assert (said.code, said.out) == (2, "")
    assert "'bad.tar' is no whole archive of `spear object export`: " in said.err
    assert reason in said.err
    assert there(cli) == {}


def test_a_damaged_byte_is_noticed_or_changes_nothing(cli: Cli, exported: dict[str, Any]) -> None:
    """The second: of a time, or of what fills the last block of a value."""
    whole = Path(ARCHIVE).read_bytes()
    noticed = 0
    for at in [*range(0, 12_000, 31), *range(12_000, len(whole), 997)]:
        Path("bad.tar").write_bytes(whole[:at] + bytes((whole[at] ^ 0x41,)) + whole[at + 1 :])
        said = cli("object", "import", "bad.tar", "--replace")
        if said.code == 2:
            noticed += 1
            assert there(cli) == {}
        else:
            assert (said.code, there(cli)) == (0, exported)
            clear(cli)
    assert noticed > 100


def test_each_cut_is_noticed(cli: Cli, exported: dict[str, Any]) -> None:
    whole = Path(ARCHIVE).read_bytes()
    for at in {*range(0, len(whole), 512), *range(100, len(whole), 4099), len(whole) - 1}:
        refused(cli, whole[:at], "")
    refused(cli, whole + whole, "something follows its end mark")


def test_files_of_others_are_refused_with_the_reason(cli: Cli, tmp_path: Path) -> None:
    refused(cli, b"", "it is no tar")
    refused(cli, b"text\n" * 1000, "there is no header of tar at its beginning")
    (tmp_path / "one").write_text("1")
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=form) as archive:
            archive.add("one")
        refused(cli, made.getvalue(), "")
    assert cli("object", "import", "not-there.tar").code == 3
    assert "cannot read" in cli("object", "import", ".").err


@pytest.mark.parametrize("size", [-1, -512, 1 << 40])
def test_sizes_that_no_object_has_are_refused(cli: Cli, size: int) -> None:
    """Of a value and of attributes; a header can say less than nothing."""
    info = tarfile.TarInfo("x")
    info.size, info.type = size, tarfile.XHDTYPE
    head = info.tobuf(tarfile.GNU_FORMAT)
    refused(cli, head + b"1" * 1024, f"have {size} bytes")
    info.size, info.type = size, tarfile.REGTYPE
    attributes = {"spear.version": "1", "spear.durability": "power"}
    sha = checksum("x", attributes, b"1" * 512)
    tar = tarfile.TarInfo("x")
    tar.pax_headers = {
        f"SCHILY.xattr.user.{name}": text
        for name, text in {**attributes, "spear.sha256": sha}.items()
    }
    made = tar.tobuf(tarfile.PAX_FORMAT)[:-512] + info.tobuf(tarfile.GNU_FORMAT) + b"1" * 512
    refused(cli, made + bytes(1024), f"has {size} bytes")


def test_two_of_one_key_are_refused(cli: Cli, exported: dict[str, Any]) -> None:
    whole = Path(ARCHIVE).read_bytes()[:-1024]
    refused(cli, whole + whole + bytes(1024), "two entries have the key")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_file_makes_it_fail_otherwise(data: st.DataObject) -> None:
    """Pieces of headers, attributes and noise in any order."""
    sha = checksum("x", {"spear.version": "1", "spear.durability": "power"}, b"")
    body = tarfile.TarInfo("x")
    body.pax_headers = {
        f"SCHILY.xattr.user.spear.{name}": text
        for name, text in (("version", "1"), ("durability", "power"), ("sha256", sha))
    }
    good = body.tobuf(tarfile.PAX_FORMAT)
    blocks = [good[at : at + 512] for at in range(0, len(good), 512)]
    piece = st.sampled_from([*blocks, bytes(512), good]) | st.binary(max_size=600)
    made = b"".join(data.draw(st.lists(piece, max_size=6)))
    try:
        found = list(unarchive.entries(io.BytesIO(made), "made"))
    except InvalidArgument:
        return
    assert [entry.key for entry in found] in ([], ["x"])
