"""A model of one posted call: every order of the steps of its guest, of Python, and of their ends.

The rule: one step is one atomic operation on the request, its list of notes or its count of
references. What the guest's own state word does is the other model's (guest_states): here a guest
that waits goes on once it was woken. `explore` of that model walks all worlds; Broken is raised
where a request is used after it was freed, an answer is read before it is whole, or everything
stands still with something left over. `Faults` plants mistakes; each must be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.reference.guest_states import Broken, State

PYTHON, GUEST, GONE = "python", "guest", "gone"


@dataclass(frozen=True)
class Faults:
    """Planted mistakes, all off by default."""

    note_without_ref: bool = False  # the list holds no reference
    call_without_ref: bool = False  # nor does a handler that goes on
    wake_before_answer: bool = False  # tells the guest first
    reply_after_answer: bool = False  # gives the turn away, and writes the reply then
    answer_without_cas: bool = False  # answers a guest that has gone
    leave_without_note: bool = False  # Python does not hear of the guest's end
    leave_keeps_turn: bool = False  # nor can it see it
    leave_forgets_tools: bool = False  # a note only if it was Python's turn
    ask_after_push: bool = False  # posts the next question, and takes the turn back then
    last_word_dropped: bool = False  # a handler that ends while a tool runs says nothing


@dataclass(frozen=True)
class World:
    """All that the threads share, and where each of them stands."""

    guest: str = "open"
    python: str = "idle"
    turn: str = PYTHON
    refs: int = 0
    notes: int = 0
    rounds: int = 0  # tools run so far
    more: bool = False  # the answer is a tool to run first
    whole: bool = False  # the reply is written
    woken: bool = False
    kill: bool = False
    known: bool = False  # Python keeps the call: a handler goes on
    running: bool = False  # the handler
    away: bool = False  # as Python sees it: the guest runs a tool
    last_word: bool = False
    killer: bool = False  # has yet to come
    closer: bool = False

    @property
    def finished(self) -> bool:
        return self.guest == "done"

    @property
    def state(self) -> State:
        return State.ENDED if self.finished else State.RUNNING


Step = tuple[str, World]


class Model:
    """A guest that makes one call which runs `tools` tools, Python, and who ends them."""

    def __init__(self, tools: int, ends: tuple[str, ...], faults: Faults) -> None:
        self.tools, self.ends, self.faults = tools, ends, faults

    def first(self) -> World:
        return World(killer="killer" in self.ends, closer="closer" in self.ends)

    def steps(self, w: World) -> Iterator[Step]:
        found = [*self._guest(w), *self._python(w)]
        if w.killer and w.guest != "done":
            found.append(("killer", replace(w, kill=True, killer=False)))
        if w.closer and w.python == "idle":
            found.append(("the loop closes", self._lost(replace(w, closer=False))))
        if not found and (w.guest != "done" or w.refs or w.notes or w.running or w.known):
            raise Broken("everything stands still, and something is left over")
        yield from found

    def _alive(self, w: World) -> World:
        if w.refs <= 0:
            raise Broken("used after it was freed")
        return w

    def _release(self, w: World) -> World:
        return replace(self._alive(w), refs=w.refs - 1)

    # ---- the guest's thread

    def _guest(self, w: World) -> Iterator[Step]:
        at, f = w.guest, self.faults
        if at == "open":
            yield "opens it", replace(w, refs=1, guest="push" if f.ask_after_push else "ask")
        elif at == "ask":
            yield "takes the turn", replace(self._alive(w), turn=PYTHON, whole=False, guest="push")
        elif at == "push":
            refs = w.refs + (not f.note_without_ref)
            following = "late ask" if f.ask_after_push and w.rounds else "look"
            yield "posts", replace(self._alive(w), refs=refs, notes=w.notes + 1, guest=following)
        elif at == "late ask":
            yield "takes the turn late", replace(w, turn=PYTHON, whole=False, guest="look")
        elif at == "look":
            answered = self._alive(w).turn == GUEST
            yield "looks", replace(w, guest="take" if answered else "wait")
        elif at == "wait":
            if w.kill:
                yield "is killed", replace(w, guest="leave")
            elif w.woken:
                yield "wakes", replace(w, woken=False, guest="look")
        elif at == "take":
            yield self._take(w)
        elif at == "tool":
            yield (
                "its tool returns",
                replace(w, rounds=w.rounds + 1, guest="push" if f.ask_after_push else "ask"),
            )
            if w.kill:
                yield "is killed in its tool", replace(w, guest="leave")
        elif at == "leave":
            yield self._leave(w)
        elif at == "close":
            yield "lets go", replace(self._release(w), guest="done")

    def _take(self, w: World) -> Step:
        if not self._alive(w).whole:
            raise Broken("the answer is read before it is written")
        return "takes the answer", replace(w, guest="tool" if w.more else "close")

    def _leave(self, w: World) -> Step:
        f = self.faults
        told = self._alive(w).turn == PYTHON or (w.more and not f.leave_forgets_tools)
        after = replace(w, turn=w.turn if f.leave_keeps_turn else GONE, guest="close")
        if told and not f.leave_without_note:
            refs = w.refs + (not f.note_without_ref)
            after = replace(after, refs=refs, notes=w.notes + 1)
        return "leaves", after

    # ---- Python

    def _python(self, w: World) -> Iterator[Step]:
        if w.python == "idle":
            if w.notes:
                yield "takes a note", replace(w, notes=w.notes - 1, python="look")
            if w.running and not w.away:
                yield from self._handler(w)
            elif w.running:
                yield "the handler gives up its tool", self._last_word(w)
        elif w.python == "look":
            yield "looks at the note", self._look(w)
        elif w.python in ("wake", "answer", "write"):
            yield self._give(w)
        elif w.python == "drop":
            yield "lets the call go", replace(self._drop(w), python="idle")

    def _handler(self, w: World) -> Iterator[Step]:
        """Asks for a tool or gives its last word."""
        if w.rounds < self.tools:
            yield "asks for a tool", self._begin_reply(replace(w, away=True), more=True)
        yield "answers", self._begin_reply(replace(w, running=False), more=False)

    def _last_word(self, w: World) -> World:
        return replace(w, running=False, last_word=not self.faults.last_word_dropped)

    def _begin_reply(self, w: World, *, more: bool) -> World:
        """Writes, gives the turn, wakes: in this order."""
        f = self.faults
        known = w.known and more
        if f.reply_after_answer:
            return replace(self._alive(w), more=more, known=known, python="answer")
        following = "wake" if f.wake_before_answer else "answer"
        return replace(self._alive(w), more=more, known=known, whole=True, python=following)

    def _give(self, w: World) -> Step:
        f, end = self.faults, "idle" if w.known else "drop"
        if w.python == "write":
            return "writes the reply late", replace(self._alive(w), whole=True, python="wake")
        if w.python == "wake":
            following = "answer" if f.wake_before_answer else end
            return "wakes", replace(self._alive(w), woken=w.guest != "done", python=following)
        mine = self._alive(w).turn == PYTHON or f.answer_without_cas
        following = "write" if f.reply_after_answer else end if f.wake_before_answer else "wake"
        return "answers", replace(w, turn=GUEST if mine else w.turn, python=following)

    def _look(self, w: World) -> World:
        turn = self._alive(w).turn
        if not w.known:
            begun = turn == PYTHON
            refs = w.refs + (begun and not self.faults.call_without_ref)
            return self._note_done(replace(w, known=begun, running=begun, refs=refs))
        if turn == GONE:
            return self._note_done(
                self._drop(replace(w, known=False, running=False, away=False, last_word=False))
            )
        if turn == PYTHON and w.away:
            w = self._note_done(replace(w, away=False))
            return self._begin_reply(w, more=False) if w.last_word else w
        return self._note_done(w)

    def _note_done(self, w: World) -> World:
        return replace(w if self.faults.note_without_ref else self._release(w), python="idle")

    def _drop(self, w: World) -> World:
        """The call's own reference."""
        return w if self.faults.call_without_ref else self._release(w)

    def _lost(self, w: World) -> World:
        """What the loop had begun fails; another serves from then on."""
        if not w.running:
            return w
        if w.away:
            return self._last_word(w)
        return self._begin_reply(replace(w, running=False), more=False)
