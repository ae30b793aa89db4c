"""Checks of a node and those who listen to them."""

from __future__ import annotations

from spear.telemetry.health import Check, Health


def test_a_node_is_ready_when_all_its_checks_are() -> None:
    health = Health()
    assert health.ready
    health.expect("grpc")
    health.set_ready("socket")
    assert health.checks() == [Check("grpc", False, "is starting"), Check("socket", True, "")]
    assert not health.ready
    assert health.describe() == "grpc: is starting"
    health.set_ready("grpc")
    assert health.ready
    health.set_unready("grpc", "the port is taken")
    assert health.describe() == "grpc: the port is taken"
    health.remove("grpc")
    assert (health.ready, health.describe()) == (True, "")


def test_a_check_may_be_asked_each_time_and_may_fail() -> None:
    health, reasons = Health(), ["the disk is full"]
    health.ask("disk", lambda: reasons[0])
    assert health.describe() == "disk: the disk is full"
    reasons[0] = ""
    assert health.ready
    reasons.clear()
    assert health.describe().startswith("disk: its check failed: IndexError")


def test_listeners_hear_how_it_is_and_each_change_once() -> None:
    health = Health()
    heard: list[bool] = []
    stop = health.listen(heard.append)
    health.expect("a")
    health.expect("b")
    health.set_ready("a")
    health.set_ready("b")
    stop()
    health.expect("c")
    assert heard == [True, False, True]
