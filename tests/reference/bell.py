"""A model of a guest's wait for messages: every order of every atomic step, explored to the end.

The rule: one step is one atomic operation of channels.pyx, hostfds.pyx or the scheduler. `explore`
of guest_states.py walks all worlds and raises Broken, with the steps that lead there, where the
guest is touched after it was freed, is run by two, or where a world is reached from which it cannot
end any more (a lost wake-up). `Faults` plants the mistakes the protocol is there to prevent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.reference.guest_states import Broken, State


@dataclass(frozen=True)
class Faults:
    """Planted mistakes, all off by default."""

    scan_before_armed: bool = False  # looks first, and says then that it waits
    not_armed_again: bool = False  # arms the bell once a wait, not before each look
    disarmed_after_scan: bool = False  # takes its own flag back when a look found nothing
    ring_before_publish: bool = False  # asks first whether somebody waits
    ring_only_parked: bool = False  # wakes only who is parked already
    ring_dropped_if_busy: bool = False  # rings for nobody while another ring is under way
    close_without_ring: bool = False  # the end of a channel is told to nobody
    wake_without_hold: bool = False  # keeps no reference while it wakes
    end_without_silence: bool = False  # the bell still knows a guest that has ended
    hold_outside_lock: bool = False  # takes the waiter, lets the lock go, and holds it then
    no_due: bool = False  # the end of a wait is not set


@dataclass(frozen=True)
class World:
    """All that the threads share, and where each of them stands."""

    pcs: tuple[str, ...]
    state: State = State.QUEUED
    entries: int = 1  # in the run queue; each holds a reference
    waiting: bool = False  # the bell's flag
    waiter: bool = True  # the bell knows the guest
    locked: bool = False  # the bell's lock
    ringing: int = 0  # rings between flag and wake, for a planted mistake
    refs: int = 2  # of life, and the queue entry
    items: int = 0
    taken: int = 0
    closed: bool = False
    kill: bool = False
    late: bool = False  # the wait's time is over
    due: bool = False
    looked: bool = False  # this wait has looked before
    owner: int = -1
    finished: bool = False


Step = tuple[str, World]


class Model:
    """A guest that reads `wanted` messages, or until the channel is closed, or once until the time
    is over; and the threads that meet over it: "worker", "producer" (one message), "closer",
    "killer", "timekeeper"."""

    def __init__(
        self, wanted: int, threads: tuple[str, ...], faults: Faults, timed: bool = False
    ) -> None:
        self.wanted, self.threads, self.faults, self.timed = wanted, threads, faults, timed

    def first(self) -> World:
        return World(pcs=self.threads)

    def steps(self, world: World) -> Iterator[Step]:
        for thread, pc in enumerate(world.pcs):
            kind, _, label = pc.partition(".")
            for name, after, following in getattr(self, f"_{kind}")(world, thread, label):
                moved = f"{kind}.{following}" if following else kind
                pcs = (*world.pcs[:thread], moved, *world.pcs[thread + 1 :])
                yield f"{self.threads[thread]}{thread} {name}", replace(after, pcs=pcs)

    # Each gives (what it does, the world after, the label it goes to); nothing where it waits.

    def _worker(self, w: World, me: int, label: str):
        faults = self.faults
        if label == "":
            if w.entries:
                yield "pop", replace(w, entries=w.entries - 1), "claim"
        elif label == "claim":
            claimed = w.state is State.QUEUED
            after = replace(w, state=State.RUNNING) if claimed else w
            yield "claim", after, "check" if claimed else "drop"
        elif label == "drop":
            yield "drop the entry", self._released(w), ""
        elif label == "check":
            yield "look at kill", w, "finish" if w.kill else "enter"
        elif label == "enter":
            self._alone(w)
            skip = faults.scan_before_armed or (faults.not_armed_again and w.looked)
            yield "begin a poll", replace(w, owner=me), "scan" if skip else "arm"
        elif label == "arm":
            yield "arm", replace(w, waiting=True), "park" if faults.scan_before_armed else "scan"
        elif label == "scan":
            yield from self._scan(w)
        elif label == "disarm late":
            yield "disarm", replace(w, waiting=False), "park"
        elif label == "found":
            done = w.taken + 1 >= self.wanted
            after = replace(w, waiting=False, looked=False, items=w.items - 1, taken=w.taken + 1)
            yield "disarm and take", after, "over" if done else "next"
        elif label == "next":
            yield "wait anew", w, "scan" if faults.scan_before_armed else "arm"
        elif label == "over":
            yield "the guest returns", replace(w, owner=-1), "finish"
        elif label == "park":
            due = replace(w, owner=-1, due=not faults.no_due)
            yield "set due", due, "kill before park"
        elif label == "kill before park":
            yield "look at kill", w, "again" if w.kill else "cas"
        elif label == "cas":
            parks = w.state is State.RUNNING
            after = replace(w, state=State.PARKED) if parks else w
            yield "RUNNING to PARKED", after, "drop" if parks else "again"
        elif label == "again":
            yield "swap RUNNING", replace(w, state=State.RUNNING), "check"
        else:
            yield from self._finish(w, label, "drop")

    def _scan(self, w: World):
        faults = self.faults
        seen = replace(w, looked=True)
        if w.items > 0:
            yield "look: a message", seen, "found"
        elif w.closed or (self.timed and w.late):
            yield "look: the end", replace(seen, waiting=False), "over"
        elif faults.scan_before_armed:
            yield "look: nothing", seen, "arm"
        else:
            following = "disarm late" if faults.disarmed_after_scan else "park"
            yield "look: nothing", seen, following

    def _finish(self, w: World, label: str, following: str):
        if label == "finish":
            self._alone(w)
            if w.finished:
                raise Broken("finished twice")
            after = replace(w, finished=True, due=False)
            yield "finish", after, "end" if self.faults.end_without_silence else "silence"
        elif label == "silence":
            if not w.locked:
                yield "silence the bell", replace(w, waiter=False), "end"
        elif label == "end":
            yield "store ENDED, let go", self._released(replace(w, state=State.ENDED)), following

    def _alone(self, w: World) -> None:
        if w.owner != -1:
            raise Broken("two threads in one store")
        self._there(w)

    def _there(self, w: World) -> None:
        if w.refs <= 0:
            raise Broken("touched after it was freed")

    def _released(self, w: World) -> World:
        self._there(w)
        return replace(w, refs=w.refs - 1)

    def _producer(self, w: World, me: int, label: str):
        early = self.faults.ring_before_publish
        if label == "" and not early:
            yield "publish", replace(w, items=w.items + 1), "ring"
        elif label == "":
            yield from self._ring(w, "ring", "publish")
        elif label == "publish":
            yield "publish", replace(w, items=w.items + 1), "done"
        else:
            yield from self._ring(w, label, "publish" if early else "done")

    def _closer(self, w: World, me: int, label: str):
        if label == "":
            deaf = self.faults.close_without_ring
            yield "close", replace(w, closed=True), "done" if deaf else "ring"
        else:
            yield from self._ring(w, label, "done")

    def _ring(self, w: World, label: str, following: str):
        faults = self.faults
        if label == "ring":
            lost = faults.ring_dropped_if_busy and w.ringing
            after = replace(w, waiting=False, ringing=w.ringing + w.waiting)
            yield "take the flag", after, "lock" if w.waiting and not lost else following
        elif label == "lock":
            if not w.locked:
                yield "lock", replace(w, locked=True), "hold"
        elif label == "hold":
            if not w.waiter:
                yield "nobody waits, unlock", replace(self._left(w), locked=False), following
            elif faults.hold_outside_lock:
                yield "saw it, unlock", replace(w, locked=False), "late hold"
            elif faults.wake_without_hold:
                yield "unlock", replace(w, locked=False), "wake"
            else:
                self._there(w)
                yield "hold, unlock", replace(w, refs=w.refs + 1, locked=False), "wake"
        elif label == "late hold":
            self._there(w)
            yield "hold", replace(w, refs=w.refs + 1), "wake"
        elif label == "let go":
            after = w if faults.wake_without_hold else self._released(w)
            yield "let go", self._left(after), following
        elif label != "done":
            yield from self._wake(w, label, "let go")

    def _left(self, w: World) -> World:
        return replace(w, ringing=w.ringing - 1)

    def _wake(self, w: World, label: str, following: str):
        self._there(w)
        if label == "wake":
            if w.state is State.PARKED:
                yield "PARKED to QUEUED", replace(w, state=State.QUEUED), "push"
            else:
                yield "not parked", w, following if self.faults.ring_only_parked else "notify"
        elif label == "notify":
            if w.state is State.RUNNING:
                yield "RUNNING to NOTIFIED", replace(w, state=State.NOTIFIED), following
            else:
                yield "not running", w, "wake" if w.state is State.PARKED else following
        elif label == "push":
            yield "push", replace(w, entries=w.entries + 1, refs=w.refs + 1), following

    def _timekeeper(self, w: World, me: int, label: str):
        if label == "":
            yield "the clock passes", replace(w, late=True), "serve"
        elif label == "serve":
            if w.due:  # the entry holds a reference of its own
                yield "pop due", replace(w, due=False, refs=w.refs + 1), "wake"
        elif label == "let go":
            yield "let go", self._released(w), "serve"
        else:
            yield from self._wake(w, label, "let go")

    def _killer(self, w: World, me: int, label: str):
        """Its caller holds the run, so the reference is there before it begins."""
        if label == "":
            yield "take the run", replace(w, refs=w.refs + 1), "doom"
        elif label == "doom":
            ended = w.state is State.ENDED
            yield "doom", replace(w, kill=w.kill or not ended), "let go" if ended else "claim"
        elif label == "claim":
            if w.state in (State.PARKED, State.QUEUED):
                yield "claim it", replace(w, state=State.RUNNING), "finish"
            elif w.state is State.RUNNING:
                yield "notify it", replace(w, state=State.NOTIFIED), "let go"
            else:
                yield "it looks by itself", w, "let go"
        elif label == "let go":
            yield "let go", self._released(w), "done"
        elif label != "done":
            yield from self._finish(w, label, "let go")
