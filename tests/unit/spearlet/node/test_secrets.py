"""What a task takes from the node's environment is seen in nothing that the node keeps or tells.

Rule: the guest says its secret in every disguise wherever it can; then all that came out is
searched: records, results, lists, watchers, logs, rows, files, webhooks' bodies.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from node_runs import DIGEST, Bench, bench, until

from spear.records.execution import Execution, Invocation
from spear.records.task import TaskSpec
from spear.runtime.stub import StubRun
from spear.spearlet.node.secrets import COVERED, PIECE_BYTES, Secrets
from spear.spearlet.node.services import NodeServices
from spear.telemetry.redact import Redactor

CANARY = 'canary/7+kd93"jf0s'
RAW = CANARY.encode()
SAID = (
    RAW, b64encode(RAW), b64encode(b"Bearer " + RAW), RAW.hex().encode(),
    RAW.hex().upper().encode(), quote(CANARY, safe="").encode(), json.dumps(CANARY)[1:-1].encode(),
)  # fmt: skip
SOUGHT = (*(said for said in SAID if said != SAID[2]), SAID[2][12:-4])
ENV_FROM = {"KEY": "NODE_KEY"}
HOOK = "http://127.0.0.1:1/hook"
SMALL, LARGE = 10, PIECE_BYTES - 5  # of what comes first: the first form lies across two pieces


def indiscreet(run: StubRun) -> None:
    """Says it in its output, its log and its error, behind what its input asks for."""
    padding = b"." * int(run.invocation.stdin or b"0")
    run.write(padding + b" ".join(SAID) + b".")
    for said in SAID:
        run.log(f"it is {said.decode()}")
    run.finish("failed", "trap", message=f"bad {b' '.join(SAID).decode()}")


async def ready(node: Bench) -> NodeServices:
    node.environ = {"NODE_KEY": CANARY}
    return await node.ready(env_from=ENV_FROM, webhook=HOOK)


async def seen_of(node: Bench, id: str) -> bytes:
    """All that can be asked about it."""
    services = node.services
    found: list[Any] = [
        await services.execution(id, include_output=True),
        (await services.executions()).executions,
        await services.wait(id),
        await node.logged(id),
        [piece async for piece in services.read_result(id)],
    ]
    return msgspec.json.encode(found) + b"".join(found[-1]) + found[0].output


def kept_of(node: Bench) -> bytes:
    rows = b"".join(key + value for key, value in node.rows.scan(b"", limit=10_000))
    return rows + b"".join(path.read_bytes() for path in node.folder.rglob("*") if path.is_file())


def assert_hidden(data: bytes, where: str) -> None:
    for form in SOUGHT:
        assert form not in data, f"{form!r} in {where}"


@pytest.mark.parametrize("mode", ["sync", "quick", "async"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_canary_is_in_no_sink(tmp_path: Path, mode: str, size: int):
    async with bench(tmp_path, indiscreet) as node:
        services = await ready(node)
        told: list[Execution] = []
        watching = asyncio.ensure_future(watch(services, told))
        await asyncio.sleep(0)
        if mode == "quick":
            node.trust()
        if mode == "async":
            ended = await services.wait((await services.submit("work", b"%d" % size)).id)
        else:
            ended = await services.invoke("work", b"%d" % size)
        await until(lambda: any(execution.ended for execution in told))
        watching.cancel()
        assert ended.output_bytes == len(ended.output) == size + len(b" ".join(SAID)) + 1
        assert ended.output.startswith(b"." * size + b"***")
        assert ended.output.endswith(b".")
        assert_hidden(msgspec.json.encode(ended) + ended.output, "the answer")
        assert_hidden(msgspec.json.encode(told), "what watchers heard")
        assert node.rows.scan(b"webhook/")
        assert_hidden(await seen_of(node, ended.id), "what can be asked")
        assert_hidden(kept_of(node), "what is kept")
        assert (await node.logged(ended.id))[-1] == COVERED


@pytest.mark.parametrize("said", [b"quite other words", RAW])
async def test_others_have_their_turns_while_a_large_output_is_looked_through(said: bytes):
    secrets, told = Secrets({"NODE_KEY": CANARY}, Redactor()), []
    spec = TaskSpec(name="work", artifact=DIGEST, env_from=ENV_FROM)
    hiding = secrets.hiding(spec, lambda: told.append(1), asked=False)
    assert hiding is not None
    output = said * (1 << 16)
    looking, turns = asyncio.ensure_future(hiding.in_turns(output)), 0
    while not looking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= len(output) / (128 << 10)
    assert looking.result() == (b"*" * len(output) if said == RAW else output)
    assert told == [1] * (said == RAW)


async def watch(services: NodeServices, told: list[Execution]) -> None:
    async for execution in services.watch():
        told += [execution]


async def test_what_is_over_in_its_first_slice_is_hidden_too(tmp_path: Path):
    def quick(run: StubRun) -> None:
        run.write(RAW)
        run.finish()

    async with bench(tmp_path, quick) as node:
        node.environ = {"NODE_KEY": CANARY}
        services = await node.ready(env_from=ENV_FROM)
        node.trust()
        ended = await services.invoke("work")
        assert (ended.status, ended.output) == ("completed", b"*" * len(RAW))
        assert_hidden(kept_of(node), "what is kept")


async def test_an_output_without_it_is_as_it_was(tmp_path: Path):
    def discreet(run: StubRun) -> None:
        run.write(b"quite other words")
        run.finish()

    async with bench(tmp_path, discreet) as node:
        services = await ready(node)
        ended = await services.invoke("work")
        assert ended.output == b"quite other words"
        assert await node.logged(ended.id) == []


async def test_another_tasks_secret_changes_no_result(tmp_path: Path):
    async with bench(tmp_path, indiscreet) as node:
        services = await ready(node)
        await services.register(TaskSpec(name="other", artifact=DIGEST))
        ended = await services.invoke("other")
        assert ended.output == b" ".join(SAID) + b"."
        for line in await node.logged(ended.id):  # which is text, and shown
            assert_hidden(line.encode(), "the log")


@pytest.mark.parametrize("registered", [True, False])
async def test_what_goes_on_in_another_process_hides_its_own(tmp_path: Path, registered: bool):
    """Its spec is not the task's of now, or no task's."""
    async with bench(tmp_path, lambda _: None, **{"executor.max_parked": 1}) as node:
        services = await ready(node)
        spec = TaskSpec(name="once", artifact=DIGEST, env_from={"IT": "NODE_KEY"})
        await services.submit("work" if registered else spec, b"0")
        waits = await services.submit("work" if registered else spec, b"0")
        await services.update(TaskSpec(name="work", artifact=DIGEST))
        node.guest = indiscreet
        services = await node.crash()
        assert_hidden(await wait_and_see(node, waits.id), "what can be asked")
        assert_hidden(kept_of(node), "what is kept")


async def wait_and_see(node: Bench, id: str) -> bytes:
    assert (await node.services.wait(id)).cause == "trap"
    return await seen_of(node, id)


async def test_what_callers_say_of_a_call_is_theirs(tmp_path: Path):
    """Not of the node's environment, so kept as it is; an error that repeats it is not."""
    async with bench(tmp_path, lambda _: None) as node:
        services = await ready(node)
        running = asyncio.ensure_future(
            services.invoke("work", b"", Invocation(metadata={"note": "mine"}))
        )
        run = await node.run()
        await services.cancel(run.invocation.execution_id, f"because {CANARY}")
        ended = await running
        assert ended.metadata == {"note": "mine"}
        assert ended.error is not None
        assert_hidden(ended.error.message.encode(), "the error")
