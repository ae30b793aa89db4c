"""Prompt calls, natively served: how a route reads, runs and writes, and what it may not hide."""

import asyncio
import gc
import weakref

import pytest

from spear._core.protofields import Field, Fields
from spear._core.servedcalls import Route, ServedCalls
from spear.errors import InvalidArgument
from spear.protocol import message as wire
from spear.protocol.convert.execution import INVOCATION, INVOKE, Invoke
from spear.protocol.session import HOST, Session
from spear.records.execution import Invocation

PATH = "/t/Do"


class Connection:
    """Stands for the connection: keeps what it is told."""

    def __init__(self, *routes, window=4, size_max=100):
        self.session = Session(HOST)
        self.session.receive(wire.pack_map(wire.HELLO, wire.Hello()))
        self.session.welcome(wire.Welcome())
        self.session.outgoing.clear()
        self.failures, self.flushed, self.relieved, self.last_id = [], 0, 0, 1
        self.lasting = set()
        self.calls = ServedCalls(
            self.session, asyncio.get_running_loop(), self, {r.path: r for r in routes},
            self.lasting, window, size_max,
        )  # fmt: skip

    def answer_failed(self, path, request_id, error, expired_ms):
        self.failures.append((path, type(error), str(error), expired_ms))
        self.session.respond(request_id, b"failed", 13)

    def eased(self):
        self.relieved += 1

    def flush(self):
        self.flushed += 1
        self.session.flush_due = False

    def frame(self, payload=b"", path=PATH, deadline_ms=0):
        self.last_id += 2
        call = wire.pack_call(path.encode(), deadline_ms, payload)
        return wire.pack(wire.REQUEST, 0, wire.CALL, self.last_id, call)

    def take(self, *frames):
        """As a connection takes one read; how many were taken here."""
        self.session.flush_due = True
        taken = self.calls.take(list(frames), 0)
        self.calls.go_on()
        self.session.flush_due = False
        return taken

    @property
    def answers(self):
        return [body[16:] for body in self.session.outgoing]


async def echo(payload):
    return payload


def route(handler=echo, read=bytes, write=bytes, **plain):
    return Route(PATH, handler, read, write, **plain)


async def test_what_reading_or_writing_or_the_handler_raises_is_the_answer():
    def refuse(_):
        raise InvalidArgument("not this")

    for bad in (route(read=refuse), route(write=refuse), route(handler=refuse)):
        connection = Connection(bad)
        assert connection.take(connection.frame()) == 1
        assert connection.failures == [(PATH, InvalidArgument, "not this", 0)]
        assert connection.answers == [b"failed"]
        assert connection.calls.under_way == {}
        assert connection.calls.size == 0


@pytest.mark.parametrize("given", [3, None, b"no awaitable"])
async def test_a_handler_that_gives_nothing_to_await_has_failed(given):
    connection = Connection(route(handler=lambda _: given))
    connection.take(connection.frame())
    assert [kind for _, kind, _, _ in connection.failures] == [AttributeError]


@pytest.mark.parametrize("written", ["text", None, 3, bytearray(b"bytes")])
async def test_what_a_handler_writes_must_be_bytes(written):
    connection = Connection(route(write=lambda _: written))
    connection.take(connection.frame())
    assert [kind for _, kind, _, _ in connection.failures] == [TypeError]
    assert connection.answers == [b"failed"]


async def test_a_handler_that_is_cancelled_before_it_begins_is_answered():
    def cancelled(_):
        raise asyncio.CancelledError

    connection = Connection(route(handler=cancelled))
    assert connection.take(connection.frame()) == 1
    assert connection.answers == [b"failed"]


async def test_a_handler_may_give_a_future():
    future = asyncio.get_running_loop().create_future()
    connection = Connection(route(handler=lambda _: future))
    connection.take(connection.frame())
    assert connection.answers == []
    assert list(connection.lasting) == list(connection.calls.under_way.values())
    future.set_result(b"done")
    await asyncio.sleep(0)
    assert connection.answers == [b"done"]
    assert connection.lasting == set()
    assert connection.flushed == 1


async def test_one_that_awaits_what_is_no_future_has_failed():
    class Odd:
        def __await__(self):
            yield "no future"

    async def strange(_):
        await Odd()

    connection = Connection(route(handler=strange))
    connection.take(connection.frame())
    assert [kind for _, kind, _, _ in connection.failures] == [AttributeError]


async def test_plain_records_are_read_and_written_without_the_callables():
    asked = []

    async def answer(request):
        asked.append(request)
        return Invocation(execution_id="7")

    def never(_):
        raise AssertionError("the message is plain")

    plain = route(answer, never, never, reads=INVOKE.fields, writes=INVOCATION.fields,
                  plain_bytes_max=1000)  # fmt: skip
    connection = Connection(plain)
    request = Invoke(task="t", input=b"i", invocation=Invocation(env={}))
    connection.take(connection.frame(INVOKE.encode(request)))
    assert asked == [request]
    assert connection.answers == [INVOCATION.encode(Invocation(execution_id="7"))]


async def test_odd_messages_and_long_answers_go_by_the_callables():
    written = []

    async def answer(request):
        return request.invocation

    def write(record):
        written.append(record)
        return b"by the long way"

    own = Fields(Invocation, [Field("execution_id", 1, "text", False, "", False, "", None)])
    connection = Connection(
        route(answer, INVOKE.decode, write, reads=INVOKE.fields, writes=own, plain_bytes_max=8)
    )
    long, short = (Invocation(execution_id="x" * size, env={"k": "v"}) for size in (7, 6))
    for record in (long, short):  # their maps are not plain
        connection.take(connection.frame(INVOKE.encode(Invoke(task="t", invocation=record))))
    assert written == [long]
    assert connection.answers == [b"by the long way", b"\x0a\x06xxxxxx"]


async def test_what_is_no_plain_call_of_a_route_is_left():
    connection = Connection(route())
    call = connection.frame(b"1")
    cut = wire.pack(wire.REQUEST, 0, wire.CALL, 101, b"\x05\x00/t/D")
    late = wire.pack(wire.REQUEST, 0, wire.CALL, 1, wire.pack_call(PATH.encode(), 0, b""))
    for other in (
        b"", call[:15], cut, wire.pack(wire.HEARTBEAT, 0, 0, 0),
        b"\x02" + call[1:], call[:2] + b"\x04" + call[3:], connection.frame(path="/t/Not"),
        wire.pack_cancel(3), connection.frame(path="/t/Do\x00"), connection.frame(path="/t/D"),
    ):  # fmt: skip
        assert connection.take(other, call) == 0
    for size in range(len(call) - len(b"1")):  # cut anywhere before its message
        assert connection.take(call[:size]) == 0
    assert connection.take(call, connection.frame(b"2"), late) == 2
    assert connection.answers == [b"1", b"2"]


async def test_beyond_the_window_or_the_bytes_the_next_waits():
    for window, size_max, payload in ((2, 100, b""), (9, 5, b"abc")):
        futures = []

        def wait(_, futures=futures):
            futures.append(asyncio.get_running_loop().create_future())
            return futures[-1]

        connection = Connection(route(handler=wait), window=window, size_max=size_max)
        assert connection.take(*(connection.frame(payload) for _ in range(4))) == 2
        assert connection.calls.full
        futures[0].set_result(b"")
        await asyncio.sleep(0)
        assert connection.relieved == 1
        assert connection.calls.size == len(payload)


async def test_one_that_drains_takes_none():
    connection = Connection(route())
    connection.calls.draining = True
    assert connection.take(connection.frame()) == 0


async def test_one_whose_session_has_ended_takes_none():
    connection = Connection(route())
    connection.session.close()
    assert connection.take(connection.frame()) == 0


async def test_a_deadline_cancels_and_is_told():
    async def stay(_):
        await asyncio.get_running_loop().create_future()

    connection = Connection(route(handler=stay))
    connection.take(connection.frame(deadline_ms=1))
    (call,) = connection.lasting
    await call.ended()
    assert [(kind, after) for _, kind, _, after in connection.failures] == [
        (asyncio.CancelledError, 1)
    ]


async def test_who_gives_up_waiting_for_its_end_takes_nobody_elses_wait():
    gate = asyncio.get_running_loop().create_future()

    async def stay(_):
        return await gate

    connection = Connection(route(handler=stay))
    connection.take(connection.frame())
    (call,) = connection.lasting
    impatient, patient = call.ended(), call.ended()
    impatient.cancel()
    await asyncio.sleep(0)
    assert not patient.done()
    gate.set_result(b"")
    await asyncio.wait_for(patient, 30)
    assert connection.lasting == set()


async def test_a_call_that_kept_its_deadline_leaves_no_timer(monkeypatch):
    loop, timers = asyncio.get_running_loop(), []
    later = loop.call_later

    def call_later(*args):
        timers.append(later(*args))
        return timers[-1]

    async def pause(payload):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return payload

    monkeypatch.setattr(loop, "call_later", call_later)
    connection = Connection(route(pause))
    connection.take(connection.frame(b"x", deadline_ms=10**6))
    await asyncio.sleep(0)
    assert connection.answers == [b"x"]
    assert [timer.cancelled() for timer in timers] == [True]


async def test_nothing_of_an_ended_call_stays():
    class Payload:
        """What can be watched."""

        def __init__(self, data):
            self.data = data

    seen = []

    def read(payload):
        made = Payload(payload)
        seen.append(weakref.ref(made))
        return made

    async def pause(payload):
        await asyncio.sleep(0)
        return payload.data

    connection = Connection(route(pause, read))
    gc.disable()
    try:
        connection.take(connection.frame(b"x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connection.answers == [b"x"]
        assert seen[0]() is None
    finally:
        gc.enable()


# ---- a handler that gives the list of those who are told of its response


def told(waiters, **more):
    return route(handler=lambda _: waiters, **more)


async def test_a_call_in_a_list_is_answered_as_it_is_told():
    waiters = []
    connection = Connection(told(waiters))
    assert connection.take(connection.frame(), connection.frame()) == 2
    assert connection.answers == []
    assert connection.lasting == set(waiters) == set(connection.calls.under_way.values())
    assert [waiter.done() for waiter in waiters] == [False, False]
    waiters[1].set_result(b"second")
    assert [waiter.done() for waiter in waiters] == [False, True]
    waiters[0].set_result(b"first")
    waiters[0].set_result(b"again")
    waiters[0].set_exception(InvalidArgument("again"))
    assert connection.answers == [b"second", b"first"]
    assert (connection.lasting, connection.calls.size, connection.failures) == (set(), 0, [])


async def test_one_that_is_told_in_its_own_part_does_not_last():
    waiters = []

    class Turn:
        def gather(self):
            self.seen = len(waiters)

        def settle(self):
            assert (self.seen, len(waiters)) == (0, 1)
            waiters[0].set_result(b"done")

    connection = Connection(told(waiters))
    connection.calls = ServedCalls(
        connection.session, asyncio.get_running_loop(), connection, {PATH: told(waiters)},
        connection.lasting, 4, 100, Turn(),
    )  # fmt: skip
    connection.calls.take_part([connection.frame(deadline_ms=10**6)])
    assert (connection.answers, connection.flushed, connection.lasting) == ([b"done"], 1, set())


async def test_one_whose_response_cannot_be_written_or_that_fails_is_answered_so():
    def refuse(_):
        raise InvalidArgument("not this")

    waiters = []
    connection = Connection(told(waiters, write=refuse))
    connection.take(connection.frame(), connection.frame())
    waiters[0].set_result(b"x")
    waiters[1].set_exception(InvalidArgument("nor that"))
    waiters[1].exception()
    assert [text for _, _, text, _ in connection.failures] == ["not this", "nor that"]
    assert connection.calls.under_way == {}


async def test_one_that_is_given_up_is_answered_once():
    waiters = []
    connection = Connection(told(waiters))
    connection.take(connection.frame())
    waiters[0].cancel()
    waiters[0].cancel()
    waiters[0].set_result(b"late")
    assert [kind for _, kind, _, _ in connection.failures] == [asyncio.CancelledError]
    assert connection.answers == [b"failed"]


async def test_a_deadline_of_one_that_is_not_told_is_told():
    waiters = []
    connection = Connection(told(waiters))
    connection.take(connection.frame(deadline_ms=1))
    await waiters[0].ended()
    waiters[0].set_result(b"late")
    assert [(kind, after) for _, kind, _, after in connection.failures] == [
        (asyncio.CancelledError, 1)
    ]


async def test_what_a_part_says_leaves_together_also_where_the_turn_fails():
    class Turn:
        def gather(self):
            pass

        def settle(self):
            raise MemoryError

    connection = Connection()
    connection.take_from = lambda frames, index: connection.left.append((frames, index))
    connection.left = []
    for turn, frames in ((None, [b"other"]), (Turn(), [b"one", b"two"])):
        connection.calls = ServedCalls(
            connection.session, asyncio.get_running_loop(), connection, {PATH: route()},
            connection.lasting, 4, 100, turn,
        )  # fmt: skip
        call = connection.frame(b"x")
        if turn is None:
            connection.calls.take_part([call, *frames])
            assert connection.flushed == 1
        else:
            with pytest.raises(MemoryError):
                connection.calls.take_part([call, *frames])
        assert not connection.session.flush_due
        assert connection.left.pop() == ([call, *frames], 1)
