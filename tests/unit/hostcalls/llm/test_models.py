"""Models: tries, fail-over, deadlines, slots, usage, in virtual time over scripted backends."""

from __future__ import annotations

import asyncio

import pytest
from scripted_backends import Stage, answer, chat, fail
from virtual_time import VirtualClock, run

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear.config_llm import Price
from spear.errors import (
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NoBackend,
    NotFound,
)
from spear.hostcalls.llm.choice.health import CLOSED, OPEN
from spear.hostcalls.llm.choice.prices import Prices
from spear.hostcalls.llm.models import Models
from spear.hostcalls.llm.request import Deliver, Delta, EmbedRequest, Reply, outlet_of
from spear.records.usage import Usage

S = 10**9
CLOCK = VirtualClock()
HANG = answer(3600)


def unavailable(status: int = 503, retry_after_ms: int = 0) -> ModelUnavailable:
    return ModelUnavailable(
        f"upstream status: {status}", http_status=status, retry_after_ms=retry_after_ms
    )


BUSY = fail(unavailable)
NO_LINE = fail(lambda: ModelUnavailable("connect failed"))
GARBAGE = fail(lambda: ModelGarbled("no JSON", http_status=200))
REFUSED = fail(lambda: ModelRefused("upstream status: 400", http_status=400))


def now_ns() -> int:
    return CLOCK.monotonic_ns()


def test_an_answer_comes_with_what_it_used() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer(0.5)]})
        reply = await stage.models.chat(chat(deadline_ns=S))
        assert (reply.backend, reply.model) == ("a", "m")
        assert (reply.usage.calls, reply.usage.tokens, reply.usage.model_ns) == (1, 15, S // 2)
        assert stage.slots == 0

    run(main())


@pytest.mark.parametrize("failure", [BUSY, NO_LINE, GARBAGE, fail(lambda: unavailable(429))])
def test_a_failed_try_goes_to_the_next_backend_at_once(failure: object) -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [failure], "b": [answer()]},  # type: ignore[list-item]
            specs={"a": {"priority": 1}},
        )  # fmt: skip
        reply = await stage.models.chat(chat(deadline_ns=S))
        assert reply.backend == "b"
        assert stage.asked == ["a1", "b1"]
        assert now_ns() == S // 10  # no wait between them
        assert reply.usage.calls == (1 if failure is NO_LINE else 2)

    run(main())


def test_what_is_refused_for_good_is_not_tried_again() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [REFUSED], "b": [answer()]}, specs={"a": {"priority": 1}})
        with pytest.raises(ModelRefused, match="upstream status: 400") as caught:
            await stage.models.chat(chat())
        assert stage.asked == ["a1"]
        assert (caught.value.calls, stage.slots) == (1, 0)
        (info, _) = stage.models.list()
        assert info.health == CLOSED

    run(main())


def test_once_all_failed_a_few_more_tries_wait_before_each() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [BUSY], "b": [BUSY]}, retries=2)
        with pytest.raises(ModelUnavailable, match="503") as caught:
            await stage.models.chat(chat(deadline_ns=600 * S))
        assert sum(len(one.asked) for one in stage.backends.values()) == 4
        assert 0 < now_ns() < 0.7 * S  # two waits of at most 200 and 400 ms
        assert caught.value.calls == 4

    run(main())


def test_a_retry_can_succeed() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [BUSY, BUSY, answer()]}, retries=2)
        reply = await stage.models.chat(chat(deadline_ns=60 * S))
        assert (reply.usage.calls, stage.asked) == (3, ["a3"])

    run(main())


def test_retry_after_is_waited_for_by_this_and_by_later_requests() -> None:
    async def main() -> None:
        limited = fail(lambda: unavailable(429, 5000))
        stage = Stage(CLOCK, {"a": [limited, answer()]}, retries=1)
        first = asyncio.create_task(stage.models.chat(chat(deadline_ns=60 * S)))
        await asyncio.sleep(1)
        second = await stage.models.chat(chat(deadline_ns=60 * S))
        await first
        assert now_ns() >= 5 * S
        assert second.usage.calls == 1

    run(main())


def test_retry_after_beyond_the_deadline_is_told_at_once() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [fail(lambda: unavailable(429, 50_000))]}, retries=5)
        for sentence in ("429", "asked to be left alone for 50000 ms more"):
            with pytest.raises(ModelUnavailable, match=sentence) as caught:
                await stage.models.chat(chat(deadline_ns=10 * S))
            assert caught.value.retry_after_ms == 50_000
        assert (stage.asked, now_ns()) == (["a1"], 0)

    run(main())


def test_a_backend_that_hangs_is_cut_off_at_the_deadline() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [HANG]})
        with pytest.raises(ModelTimeout, match="'a' did not answer within 3000 ms") as caught:
            await stage.models.chat(chat(deadline_ns=3 * S))
        assert (now_ns(), stage.slots, stage["a"].busy) == (3 * S, 0, 0)
        assert (caught.value.calls, caught.value.model_ns) == (1, 3 * S)
        assert stage.models.list()[0].health == CLOSED

    run(main())


def test_a_backend_s_own_timeout_leaves_time_for_another() -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [HANG], "b": [answer()]}, specs={"a": {"priority": 1}},
            settings={"a": {"timeout_ns": S}},
        )  # fmt: skip
        reply = await stage.models.chat(chat(deadline_ns=60 * S))
        assert (reply.backend, now_ns()) == ("b", S + S // 10)
        assert stage["a"].deadlines == [S]
        assert stage["b"].deadlines == [60 * S]

    run(main())


def test_a_backend_that_timed_out_is_not_tried_twice() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [HANG]}, settings={"a": {"timeout_ns": S}}, retries=5)
        with pytest.raises(ModelTimeout):
            await stage.models.chat(chat(deadline_ns=60 * S))
        assert (stage.asked, now_ns()) == (["a1"], S)

    run(main())


def test_a_retry_with_too_little_time_left_does_not_hide_the_error_before_it() -> None:
    async def main() -> None:
        limited = fail(lambda: unavailable(429, 997))
        stage = Stage(CLOCK, {"a": [limited, HANG]})
        with pytest.raises(ModelUnavailable, match="429"):
            await stage.models.chat(chat(deadline_ns=S))
        assert (stage.asked, now_ns()) == (["a1"], 0)

    run(main())


def test_a_cancelled_caller_leaves_no_slot_taken() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer(10)]}, settings={"a": {"concurrency": 1}})
        calls = [asyncio.create_task(stage.models.chat(chat())) for _ in range(3)]
        await asyncio.sleep(1)
        assert (stage.slots, stage["a"].busy_max) == (3, 1)
        calls[1].cancel()  # waits
        calls[0].cancel()  # is under way
        await asyncio.gather(*calls, return_exceptions=True)
        assert calls[2].result().backend == "a"
        assert (stage.slots, stage["a"].busy, now_ns()) == (0, 0, 11 * S)

    run(main())


def test_a_caller_cancelled_in_the_moment_it_gets_a_slot_hands_it_on() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer(1)]}, settings={"a": {"concurrency": 1}})
        calls = [asyncio.create_task(stage.models.chat(chat())) for _ in range(3)]

        def strike(_: object) -> None:
            calls[1].cancel()

        calls[0].add_done_callback(strike)
        await asyncio.gather(*calls, return_exceptions=True)
        assert calls[1].cancelled()
        assert calls[2].result().backend == "a"
        assert stage.slots == 0

    run(main())


def test_who_waits_for_a_slot_is_served_in_order_and_not_beyond_the_deadline() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer(1)]}, settings={"a": {"concurrency": 1}})
        order: list[int] = []

        async def call(n: int) -> None:
            await stage.models.chat(chat(deadline_ns=round(3.5 * S)))
            order.append(n)

        results = await asyncio.gather(*map(call, range(5)), return_exceptions=True)
        assert order == [0, 1, 2]
        assert all(isinstance(error, ModelTimeout) for error in results[3:])
        assert "had no room" in str(results[4])
        assert (stage.slots, now_ns()) == (0, round(3.5 * S))

    run(main())


def test_a_full_backend_spills_to_one_that_has_room() -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [answer(1)], "b": [answer(1)]}, specs={"a": {"priority": 1}},
            settings={"a": {"concurrency": 1}},
        )  # fmt: skip
        replies = await asyncio.gather(*(stage.models.chat(chat()) for _ in range(3)))
        assert sorted(reply.backend for reply in replies) == ["a", "b", "b"]

    run(main())


def test_requests_a_minute_are_spread_out() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer(0)]}, settings={"a": {"requests_per_minute": 60}},
                      retries=0)  # fmt: skip
        times: list[int] = []

        async def call() -> None:
            await stage.models.chat(chat(deadline_ns=600 * S))
            times.append(now_ns())

        await asyncio.gather(*(call() for _ in range(20)))
        assert times == [max(0, n - 5) * S for n in range(20)]
        with pytest.raises(ModelUnavailable, match="requests of this minute") as caught:
            await stage.models.chat(chat(deadline_ns=now_ns() + S // 2))
        assert caught.value.retry_after_ms == 1000
        assert stage.slots == 0

    run(main())


def test_a_failing_backend_is_told_once_and_put_behind_until_it_is_well() -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [BUSY] * 4 + [answer()], "b": [answer()]}, specs={"a": {"priority": 1}}
        )
        for _ in range(3):
            await stage.models.chat(chat())
        assert [info.health for info in stage.models.list()] == [OPEN, CLOSED]
        await stage.models.chat(chat())
        assert stage.asked == ["a3", "b4"]
        await asyncio.sleep(1)  # then it is tried again, fails, and rests for longer
        await stage.models.chat(chat())
        await asyncio.sleep(1)
        await stage.models.chat(chat())
        assert stage.asked == ["a4", "b6"]
        await asyncio.sleep(1)
        assert (await stage.models.chat(chat())).backend == "a"
        stage.log.flush()
        assert stage.lines.text.count("a model backend is failing") == 1
        assert stage.lines.text.count("a model backend answers again") == 1

    run(main())


def test_while_one_tries_a_failing_backend_others_go_elsewhere() -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [BUSY] * 3 + [answer(5)], "b": [answer()]}, specs={"a": {"priority": 1}}
        )
        for _ in range(3):
            await stage.models.chat(chat())
        await asyncio.sleep(1)
        replies = await asyncio.gather(*(stage.models.chat(chat()) for _ in range(5)))
        assert [reply.backend for reply in replies] == ["a", "b", "b", "b", "b"]

    run(main())


def test_a_cancelled_trial_leaves_room_for_the_next() -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [BUSY] * 3 + [HANG, answer()], "b": [answer()]},
            specs={"a": {"priority": 1}},
        )  # fmt: skip
        for _ in range(3):
            await stage.models.chat(chat())
        await asyncio.sleep(1)
        trial = asyncio.create_task(stage.models.chat(chat()))
        await asyncio.sleep(0.5)
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        assert (await stage.models.chat(chat())).backend == "a"

    run(main())


def test_a_sole_backend_is_asked_however_ill_it_is() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [BUSY] * 6 + [answer()]}, retries=0)
        for _ in range(6):
            with pytest.raises(ModelUnavailable):
                await stage.models.chat(chat())
        assert (await stage.models.chat(chat())).backend == "a"

    run(main())


def test_text_may_go_past_the_reader_of_a_stream_once_the_answer_has_begun() -> None:
    """Else nobody would know that it has: a stream fails over until then."""
    outlet = Outlet(Channel(), [], lambda _: None, 16)
    found: list[Outlet | None] = []

    class Reader:
        def __init__(self) -> None:
            self.outlet = outlet

        def __call__(self, piece: Delta) -> None: ...

    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer()]})

        async def stream(request: object, model: str, deliver: Deliver) -> Reply:
            found.append(outlet_of(deliver))
            deliver(Delta(content="a"))
            found.append(outlet_of(deliver))
            return Reply(body={}, backend="a", model="m", usage=Usage(calls=1))

        stage["a"].stream = stream  # type: ignore[method-assign,assignment]
        await stage.models.stream(chat(), Reader())
        await stage.models.stream(chat(), lambda _: None)

    run(main())
    assert found == [None, outlet, None, None]


async def pieces_of(models: Models) -> list[str]:
    """And who answered."""
    pieces: list[Delta] = []
    reply = await models.stream(chat(), pieces.append)
    return [*(piece.content for piece in pieces), reply.backend]


def test_a_stream_fails_over_before_its_first_piece() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"x": [BUSY], "y": [answer()]}, specs={"x": {"priority": 1}})
        assert await pieces_of(stage.models) == ["a", "b", "y"]
        assert stage.slots == 0

    run(main())


@pytest.mark.parametrize(
    ("broken", "kind"), [([fail(unavailable)], ModelUnavailable), ([HANG], ModelTimeout)]
)
def test_a_stream_that_breaks_after_a_piece_is_not_begun_anew(
    broken: list[object], kind: type[ModelError]
) -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"x": [answer()], "y": [answer()]}, specs={"x": {"priority": 1}})
        stage["x"].pieces = ["a", *broken]  # type: ignore[list-item]
        seen: list[Delta] = []
        with pytest.raises(kind):
            await stage.models.stream(chat(deadline_ns=20 * S), seen.append)
        assert seen == [Delta(content="a")]
        assert (stage.asked, stage.slots) == (["x1"], 0)

    run(main())


def test_a_stream_that_is_cancelled_gives_its_slot_back() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"x": [answer()]}, settings={"x": {"concurrency": 1}})
        begun = asyncio.Event()

        async def stay(_: Delta) -> None:
            begun.set()
            await asyncio.sleep(3600)

        task = asyncio.create_task(stage.models.stream(chat(), stay))
        await begun.wait()
        assert (stage.slots, stage["x"].busy) == (1, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (stage.slots, stage["x"].busy) == (0, 0)
        assert len(await pieces_of(stage.models)) == 3

    run(main())


def test_a_slow_reader_is_not_cut_off_between_two_pieces() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"x": [answer()]})
        seen = 0

        async def read(_: Delta) -> None:
            nonlocal seen
            await asyncio.sleep(2)
            seen += 1

        await stage.models.stream(chat(deadline_ns=5 * S), read)
        assert seen == 2

    run(main())


def test_a_reader_beyond_the_deadline_is_not_cut_off_and_its_stream_ends() -> None:
    async def main() -> None:
        stage, seen = Stage(CLOCK, {"x": [answer()]}), []

        async def read(piece: Delta) -> None:
            await asyncio.sleep(6)
            seen.append(piece.content)

        with pytest.raises(ModelTimeout, match="'x' did not answer within"):
            await stage.models.stream(chat(deadline_ns=5 * S), read)
        assert (seen, stage.slots, CLOCK.monotonic_ns() >= 6 * S) == (["a"], 0, True)

    run(main())


def test_embeddings_go_to_backends_that_embed() -> None:
    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [answer()], "b": [answer()]}, specs={"b": {"ops": ("embeddings",)}}
        )
        reply = await stage.models.embed(EmbedRequest(texts=["x"]))
        assert reply.backend == "b"
        with pytest.raises(NoBackend, match="'a' does not declare supports_tools; 'b' "):
            await stage.models.chat(chat(tools=[{"function": {"name": "f"}}]))

    run(main())


def test_a_missing_credential_is_listed_with_the_reason() -> None:
    async def main() -> None:
        specs = {"a": {"credential_ref": "A_KEY"}, "b": {"credential_ref": "B_KEY"}}
        stage = Stage(
            CLOCK, {"a": [answer()], "b": [answer()]}, specs=specs, environ={"B_KEY": " b-key-1\n"}
        )
        infos = {info.name: info for info in stage.models.list()}
        assert not infos["a"].available
        assert infos["a"].reason == "the environment variable A_KEY is not set"
        assert infos["b"].available
        assert (await stage.models.chat(chat())).backend == "b"
        assert stage["b"].key == "b-key-1"
        with pytest.raises(NoBackend, match="'a' is not available: the environment variable A_KEY"):
            await stage.models.chat(chat(backend="a"))

    run(main())


@pytest.mark.parametrize("key", ["two words", "abc", "ключ-ключ", "a\tb-c-d"])
def test_what_no_header_can_carry_is_no_key(key: str) -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer()]}, specs={"a": {"credential_ref": "A_KEY"}},
                      environ={"A_KEY": key})  # fmt: skip
        (info,) = stage.models.list()
        assert not info.available
        assert info.reason == "what the environment variable A_KEY holds cannot be a key"

    run(main())


def test_prices_are_an_upper_bound_over_those_that_have_one() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer()], "b": [answer()]})
        assert stage.models.price(chat(), 1000, 1000) == 0
        table = [Price(model="m", backend="a", prompt=10**9, completion=2 * 10**9)]
        stage.models._prices = Prices(table)
        assert stage.models.price(chat(), 1000, 1000) == 3 * 10**6
        assert stage.models.price(chat(backend="a"), 1000, 1000) == 3 * 10**6
        stage.models._prices = Prices([*table, Price(model="*", prompt=5 * 10**9)])
        assert stage.models.price(chat(), 1000, 1000) == 5 * 10**6
        assert stage.models.price(chat(backend="nobody"), 1, 1) == 0
        reply = await stage.models.chat(chat(backend="a"))
        assert reply.usage.cost_nano_usd == 10 * 1000 + 5 * 2000

    run(main())


def test_a_test_asks_that_backend_and_shows_what_it_said() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer(0.25)], "e": [answer()]},
                      specs={"e": {"ops": ("embeddings",)}})  # fmt: skip
        found = await stage.models.test("a")
        assert (found.answer, found.latency_ns, found.prompt_tokens) == ("by a", S // 4, 10)
        assert (await stage.models.test("e")).answer == "a vector of 2 numbers"
        with pytest.raises(NotFound, match="'nobody': known are a, e"):
            await stage.models.test("nobody")

    run(main())


def test_closing_closes_the_backends_and_forgets_the_keys() -> None:
    async def main() -> None:
        stage = Stage(CLOCK, {"a": [answer()]}, specs={"a": {"credential_ref": "A_KEY"}},
                      environ={"A_KEY": "a-key-1"})  # fmt: skip
        await stage.models.chat(chat())
        assert stage.redactor.text("a-key-1") == "[redacted:A_KEY]"
        await stage.models.close()
        assert stage["a"].closed
        assert not stage.redactor

    run(main())


def test_a_broken_invariant_in_a_backend_is_no_model_error_and_takes_no_slot() -> None:
    def broken() -> float:
        raise RuntimeError("a bug")

    async def main() -> None:
        stage = Stage(CLOCK, {"a": [broken]})
        with pytest.raises(RuntimeError, match="a bug"):
            await stage.models.chat(chat())
        assert stage.slots == 0

    run(main())


def test_an_error_of_one_backend_that_names_the_key_of_another_is_cleaned() -> None:
    """A backend cleans its own errors of its own key only."""
    key = "sk-of-another-9f2k"

    def told() -> ModelError:
        error = ModelRefused(f"upstream status: 400: {key}", http_status=400, code=key)
        error.__cause__ = ValueError(key)
        return error

    async def main() -> None:
        stage = Stage(
            CLOCK, {"a": [fail(told)], "b": [answer()]}, environ={"OTHER_KEY": key},
            specs={"a": {"priority": 1}, "b": {"credential_ref": "OTHER_KEY"}},
        )  # fmt: skip
        with pytest.raises(ModelRefused) as caught:
            await stage.models.chat(chat())
        assert str(caught.value) == "upstream status: 400: [redacted:OTHER_KEY]"
        assert caught.value.code == "[redacted:OTHER_KEY]"
        assert caught.value.__cause__ is caught.value.__context__ is None

    run(main())
