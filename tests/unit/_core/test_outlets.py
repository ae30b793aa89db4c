from __future__ import annotations

from asyncio import Future
from typing import Any

import pytest

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear.errors import InvalidArgument


class Stage:
    """Outlets of one loop, and what they were told to begin."""

    def __init__(self) -> None:
        self.due: list[Any] = []
        self.begun: list[Outlet] = []

    def begin(self, outlet: Outlet) -> None:
        self.begun.append(outlet)
        self.due.append(outlet)

    def outlet(self, **limits: int) -> Following:
        return Following(Channel(**limits), self.due, self.begin, 4)


class Following(Outlet):
    def follow(self) -> Future[Any]:
        return "moves"  # type: ignore[return-value]


def everything(channel: Channel) -> list[bytes]:
    return list(iter(channel.get_nowait, None))


def test_the_first_message_of_a_turn_begins_it_and_each_outlet_is_due_once() -> None:
    stage = Stage()
    one, other = stage.outlet(), stage.outlet()
    for outlet in (one, one, other, one, other):
        outlet.hold(b"x")
    assert stage.begun == [one]
    assert stage.due == [one, other]
    stage.due.clear()
    one.go()
    one.hold(b"y")
    assert stage.begun == [one, one]


def test_what_is_held_goes_in_order() -> None:
    outlet = Stage().outlet()
    for message in (b"a", b"b", b"c"):
        outlet.hold(message)
    assert len(outlet.channel) == 0
    outlet.go()
    assert (everything(outlet.channel), outlet.held, outlet.moving) == (
        [b"a", b"b", b"c"],
        [],
        None,
    )


def test_what_finds_no_room_is_left_to_who_follows() -> None:
    outlet = Stage().outlet(items_max=2)
    for message in (b"a", b"b", b"c"):
        outlet.hold(message)
    outlet.go()
    assert (outlet.held, outlet.moving) == ([b"c"], "moves")
    assert everything(outlet.channel) == [b"a", b"b"]
    outlet.hold(b"d")
    outlet.go()  # somebody moves them already
    assert everything(outlet.channel) == []
    assert outlet.held == [b"c", b"d"]


def test_what_is_held_for_a_reader_that_is_gone_is_dropped() -> None:
    outlet = Stage().outlet()
    outlet.hold(b"a")
    outlet.channel.close()
    outlet.go()
    assert (outlet.held, outlet.moving) == ([], None)


def test_a_message_that_never_fits_is_said() -> None:
    outlet = Stage().outlet(bytes_max=3)
    outlet.hold(b"four")
    with pytest.raises(InvalidArgument, match="at most 3"):
        outlet.go()


def test_an_outlet_that_nobody_follows_says_so() -> None:
    outlet = Outlet(Channel(items_max=1), [], lambda _: None, 4)
    outlet.hold(b"a")
    outlet.hold(b"b")
    with pytest.raises(NotImplementedError):
        outlet.go()
