"""A model of the guest's state word: every order of every atomic step, explored to the end.

The rule: one step is one atomic operation of the scheduler, one world is everything that its
threads can tell apart. `explore` walks all worlds that can be reached and raises Broken, with the
steps that lead there, where two threads poll one guest, a guest is finished twice, or a world is
reached from which the guest cannot end any more (a lost wake-up, a lost kill). `Faults` plants the
mistakes that the protocol is there to prevent; each must be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class State(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    NOTIFIED = "notified"
    PARKED = "parked"
    ENDED = "ended"


@dataclass(frozen=True)
class Faults:
    """Planted mistakes, all off by default."""

    park_without_cas: bool = False  # stores PARKED over a NOTIFIED
    park_before_kill_check: bool = False  # polls again and parks without a look at `kill`
    doom_ignores_running: bool = False  # leaves a running guest without a sign
    doom_without_cas: bool = False  # claims by a load and a store
    wake_ignores_running: bool = False  # wakes only who is parked already
    wake_before_ready: bool = False  # tells first, and stores the reply then
    wake_without_cas: bool = False  # queues whoever was seen parked
    pop_without_cas: bool = False  # runs a queue's entry unseen
    no_due: bool = False  # parks without an entry in the timekeeper's queue
    enlist_before_state: bool = False  # stores QUEUED when others may have ended it
    requeue_after_push: bool = False  # pushes first, and stores QUEUED then
    forget_push: bool = False  # makes a woken guest QUEUED, and that is all


@dataclass(frozen=True)
class World:
    """All that the threads share, and where each of them stands."""

    pcs: tuple[str, ...]
    state: State = State.QUEUED
    kill: bool = False
    ready: bool = False  # the reply of the pending hostcall
    late: bool = False  # the clock has passed the end of the sleep
    due: bool = False  # the timekeeper has an entry
    listed: bool = False  # others can find the guest
    entries: int = 0  # in the run queue
    at: int = 0  # place in the guest's script
    owner: int = -1  # thread inside the store
    finished: bool = False


class Broken(AssertionError):
    """The protocol fails; the message tells the steps."""


Step = tuple[str, World]


class Model:
    """A guest that does `script`, and the threads that meet over it.

    Script: "reply" waits for the waker, "sleep" for the clock, "yield" ends a slice, "loop" goes on
    until it is killed; behind the last item the guest returns. Threads: "starter" (queues it),
    "inline" (runs its first slice), "worker", "waker", "doomer", "timekeeper".
    """

    def __init__(self, script: tuple[str, ...], threads: tuple[str, ...], faults: Faults) -> None:
        self.script, self.threads, self.faults = script, threads, faults

    def first(self) -> World:
        inline = "inline" in self.threads
        return World(pcs=self.threads, state=State.RUNNING if inline else State.QUEUED)

    def steps(self, world: World) -> Iterator[Step]:
        for thread, pc in enumerate(world.pcs):
            kind, _, label = pc.partition(".")
            for name, after, following in getattr(self, f"_{kind}")(world, thread, label):
                moved = f"{kind}.{following}" if following else kind
                pcs = (*world.pcs[:thread], moved, *world.pcs[thread + 1 :])
                yield f"{self.threads[thread]}{thread} {name}", replace(after, pcs=pcs)

    # Each gives (what it does, the world after, the label it goes to); nothing where it waits.

    def _starter(self, w: World, me: int, label: str):
        if label == "":
            yield (
                "enlist",
                replace(w, listed=True),
                ("store" if self.faults.enlist_before_state else "push"),
            )
        elif label == "store":
            yield "store QUEUED", replace(w, state=State.QUEUED), "push"
        elif label == "push":
            yield "push", replace(w, entries=w.entries + 1), "done"

    def _inline(self, w: World, me: int, label: str):
        if label == "":
            yield "enlist", replace(w, listed=True), "check"
        elif label != "idle":
            yield from self._worker(w, me, label)

    def _worker(self, w: World, me: int, label: str):
        faults = self.faults
        if label in ("", "idle"):
            if w.entries:
                yield "pop", replace(w, entries=w.entries - 1), "claim"
        elif label == "claim":
            if w.state is State.QUEUED or faults.pop_without_cas:
                yield "QUEUED to RUNNING", replace(w, state=State.RUNNING), "check"
            else:
                yield "drop a stale entry", w, "idle"
        elif label == "check":
            yield "look at kill", w, "finish" if w.kill else "enter"
        elif label == "enter":
            self._alone(w)
            yield "begin a poll", replace(w, owner=me), "poll"
        elif label == "poll":
            yield from self._poll(w)
        elif label == "requeue":
            yield from self._requeue(w)
        elif label == "push":
            yield (
                "push",
                replace(w, entries=w.entries + 1),
                ("late store" if faults.requeue_after_push else "idle"),
            )
        elif label == "late store":
            yield "store QUEUED", replace(w, state=State.QUEUED), "idle"
        elif label == "set due":
            following = "park" if faults.park_before_kill_check else "kill before park"
            yield "set due", replace(w, due=not faults.no_due), following
        elif label == "kill before park":
            yield "look at kill", w, "run again" if w.kill else "park"
        elif label == "park":
            yield from self._park(w)
        elif label == "run again":
            following = "enter" if faults.park_before_kill_check else "check"
            yield "swap RUNNING", replace(w, state=State.RUNNING), following
        else:
            yield from self._finish(w, me, label, "idle")

    def _poll(self, w: World):
        out = replace(w, owner=-1)
        item = self.script[w.at] if w.at < len(self.script) else "return"
        if item == "return":
            yield "the guest returns", out, "finish"
        elif item == "loop":
            yield "slice ends", out, "requeue"
            if w.kill:
                yield "the epoch ends the guest", out, "finish"
        elif item == "yield":
            yield "slice ends", replace(out, at=w.at + 1), "requeue"
        elif w.ready if item == "reply" else w.late:
            yield f"{item} is there", replace(w, at=w.at + 1), "poll"
        else:
            yield f"waits for {item}", out, "set due"

    def _requeue(self, w: World):
        if self.faults.requeue_after_push:
            yield "too early", w, "push"
        else:
            yield "swap QUEUED", replace(w, state=State.QUEUED), "push"

    def _park(self, w: World):
        if w.state is State.RUNNING or self.faults.park_without_cas:
            yield "RUNNING to PARKED", replace(w, state=State.PARKED), "idle"
        else:
            yield "was notified", w, "run again"

    def _finish(self, w: World, me: int, label: str, following: str):
        if label == "finish":
            self._alone(w)
            if w.finished:
                raise Broken("finished twice")
            yield "finish", replace(w, finished=True, due=False), "ended"
        elif label == "ended":
            yield "store ENDED", replace(w, state=State.ENDED), following

    def _alone(self, w: World) -> None:
        if w.owner != -1:
            raise Broken("two threads in one store")
        if w.finished:
            raise Broken("used after its end")

    def _waker(self, w: World, me: int, label: str):
        early = self.faults.wake_before_ready
        if label == "":
            if w.listed:
                yield "the reply comes", (w if early else replace(w, ready=True)), "wake"
        elif label == "done" and early and not w.ready:
            yield "stores the reply", replace(w, ready=True), "done"
        else:
            yield from self._wake(w, label, "done")

    def _wake(self, w: World, label: str, following: str):
        faults = self.faults
        if label == "wake":
            if w.state is State.PARKED and faults.wake_without_cas:
                yield "saw PARKED", w, "careless"
            elif w.state is State.PARKED:
                queued = replace(w, state=State.QUEUED)
                yield "PARKED to QUEUED", queued, following if faults.forget_push else "push"
            else:
                yield "not parked", w, "notify"
        elif label == "careless":
            yield "store QUEUED", replace(w, state=State.QUEUED), "push"
        elif label == "notify":
            if w.state is State.RUNNING and not faults.wake_ignores_running:
                yield "RUNNING to NOTIFIED", replace(w, state=State.NOTIFIED), following
            else:
                yield "not running", w, "again"
        elif label == "again":
            tries = w.state is State.PARKED or (
                w.state is State.RUNNING and not faults.wake_ignores_running
            )
            yield "look again", w, "wake" if tries else following
        elif label == "push":
            yield "push", replace(w, entries=w.entries + 1), following

    def _timekeeper(self, w: World, me: int, label: str):
        if label == "":
            yield "the clock passes", replace(w, late=True), "serve"
        elif label == "serve":
            if w.due:
                yield "pop due", replace(w, due=False), "wake"
        else:
            yield from self._wake(w, label, "serve")

    def _doomer(self, w: World, me: int, label: str):
        faults = self.faults
        if label == "":
            if w.listed:
                ended = w.state is State.ENDED
                yield "doom", replace(w, kill=w.kill or not ended), "done" if ended else "parked"
        elif label in ("parked", "queued"):
            wanted, following = (
                (State.PARKED, "queued") if label == "parked" else (State.QUEUED, "running")
            )
            if w.state is not wanted:
                yield f"not {label}", w, following
            elif faults.doom_without_cas:
                yield f"saw it {label}", w, "careless"
            else:
                yield f"claims it {label}", replace(w, state=State.RUNNING), "finish"
        elif label == "careless":
            yield "store RUNNING", replace(w, state=State.RUNNING), "finish"
        elif label == "running":
            if faults.doom_ignores_running:
                yield "ignores it", w, "done"
            elif w.state is State.RUNNING:
                yield "RUNNING to NOTIFIED", replace(w, state=State.NOTIFIED), "done"
            else:
                yield "not running", w, "look"
        elif label == "look":
            settled = w.state in (State.NOTIFIED, State.ENDED)
            yield "look again", w, "done" if settled else "parked"
        else:
            yield from self._finish(w, me, label, "done")


def explore(model: Any, worlds_max: int = 300_000) -> int:
    """How many worlds there are; raises Broken where one of them must not be."""
    first = model.first()
    came: dict[Any, tuple[Any, str] | None] = {first: None}
    before: dict[Any, list[Any]] = {first: []}
    pending = [first]
    while pending:
        world = pending.pop()
        try:
            steps = list(model.steps(world))
        except Broken as error:
            raise Broken(f"{error}:\n{told(came, world)}") from None
        for name, after in steps:
            if after not in came:
                came[after], before[after] = (world, name), []
                pending.append(after)
            before[after].append(world)
        assert len(came) <= worlds_max, "the model grew out of bounds"
    _require_an_end(came, before)
    return len(came)


def _require_an_end(came: dict[Any, tuple[Any, str] | None], before: dict[Any, list[Any]]) -> None:
    """From each world an ended one can be reached."""
    pending = [world for world in came if world.finished and world.state is State.ENDED]
    reach = set(pending)
    while pending:
        for world in before[pending.pop()]:
            if world not in reach:
                reach.add(world)
                pending.append(world)
    for world in came:
        if world not in reach:
            raise Broken(f"the guest cannot end any more:\n{told(came, world)}")


def told(came: dict[Any, tuple[Any, str] | None], world: Any) -> str:
    lines = [str(world)]
    step = came[world]
    while step is not None:
        lines.append(step[1])
        step = came[step[0]]
    return "\n".join(reversed(lines))
