"""The node as a library: the async and the sync face give the same, from plain values."""

from __future__ import annotations

import asyncio
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest
from conftest import make_config

import spear
from spear.errors import InvalidArgument, ModuleInvalid, NodeClosed, NotFound
from spear.records.node import Node
from spear.runtime.stub import StubRun, StubRuntime
from spear.spearlet.handle import Handle, SyncHandle

WASM = b"stub guest"


def echo(run: StubRun) -> None:
    run.log("begun")
    run.write(run.invocation.stdin)
    run.finish()


def park(run: StubRun) -> None:
    run.log("waiting")


def parts(folder: Path, guest: Any = echo, **settings: object) -> dict[str, Any]:
    return {"config": make_config(folder, **settings), "runtime": StubRuntime(guest)}


@pytest.mark.parametrize("kind", [spear.Spearlet, spear.SyncSpearlet])
def test_what_only_a_node_that_keeps_tasks_has_is_told_where_it_is(
    tmp_path: Path, kind: type[spear.Spearlet | spear.SyncSpearlet]
) -> None:
    node = kind(**parts(tmp_path))
    for name in {name for name in vars(Node) if not name.startswith("_")} - set(dir(node)):
        assert not hasattr(node, name)
        with pytest.raises(AttributeError, match=rf"{name}.*Spearlet\.open\(\) makes one"):
            getattr(node, name)
    for name in ("regsiter", "_runtimes", "__len__"):
        with pytest.raises(AttributeError, match=rf"no attribute '{name}'$"):
            getattr(node, name)


async def test_a_module_is_run_and_its_record_given(tmp_path: Path) -> None:
    async with spear.Spearlet(**parts(tmp_path)) as node:
        execution = await node.run(WASM, input=b"payload", name="agent")
        assert (execution.status, execution.output) == ("completed", b"payload")
        assert execution.task_name == "agent"
        assert await node.execution(execution.id) is execution
        assert await node.executions(status="completed") == [execution]
        assert (await node.stats())["executions"]["completed"] == 1


def test_the_sync_face_gives_the_same(tmp_path: Path) -> None:
    with spear.Spearlet.sync(**parts(tmp_path)) as node:
        execution = node.run(WASM, input="payload", name="agent")
        assert (execution.status, execution.output) == ("completed", b"payload")
        assert node.execution(execution.id) is execution
        assert node.executions(limit=1) == [execution]
        assert node.stats()["executions"]["completed"] == 1
        assert node.cancel(execution.id) is execution


def test_both_faces_have_the_same_methods() -> None:
    names = {name for name in dir(spear.Spearlet) if not name.startswith("_")} - {"sync", "open"}
    assert names == {name for name in dir(spear.SyncSpearlet) if not name.startswith("_")}


def test_sync_runs_begin_on_the_caller_s_thread_and_async_ones_do_not(tmp_path: Path) -> None:
    seen: list[bool] = []
    known = parts(tmp_path, lambda run: (seen.append(run.invocation.inline), run.finish()))
    with spear.Spearlet.sync(**known) as node:
        node.run(WASM)

    async def later() -> None:
        async with spear.Spearlet(**known | {"runtime": StubRuntime(known["runtime"]._guest)}) as n:
            await n.run(WASM)

    asyncio.run(later())
    assert seen == [True, False]


def test_a_path_names_the_task_and_what_the_guest_is_called(tmp_path: Path) -> None:
    known = parts(tmp_path)
    path = tmp_path / "agent.wasm"
    path.write_bytes(WASM)
    with spear.Spearlet.sync(**known) as node:
        assert node.run(path, args=["a", "b"], env={"K": "v"}).task_name == "agent"
        assert node.run(str(path)).task_name == "agent"
    invocation = known["runtime"].runs[0].invocation
    assert (invocation.args, invocation.env) == (("agent", "a", "b"), {"K": "v"})
    assert invocation.entry == "_start"


def test_a_loaded_artifact_is_run_again_without_loading(tmp_path: Path) -> None:
    known = parts(tmp_path)
    with spear.Spearlet.sync(**known) as node:
        artifact = node.load(WASM)
        for _ in range(3):
            assert node.run(artifact, entry="__spear_default_entry__").completed
    assert known["runtime"].loads == 1


def test_limits_come_from_the_call_else_the_configuration(tmp_path: Path) -> None:
    known = parts(tmp_path, limits__timeout="7s", limits__async_timeout="9m")
    with spear.Spearlet.sync(**known) as node:
        node.run(WASM)
        node.start(WASM)
        node.run(WASM, timeout=0.25, memory="1MiB", output=5, log="1KiB")
    waited, started, own = (run.invocation for run in known["runtime"].runs)
    assert waited.timeout_ns == 7 * 10**9
    assert started.timeout_ns == 540 * 10**9
    assert (own.timeout_ns, own.memory_bytes_max) == (250_000_000, 1 << 20)
    assert (own.output_bytes_max, own.log_bytes_max) == (5, 1024)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout: expected 1ms to 365d, found 0"),
        ({"timeout": -1.5}, "timeout: expected 1ms to 365d, found -1.5"),
        ({"timeout": "400d"}, "timeout: expected 1ms to 365d"),
        ({"timeout": float("nan")}, "timeout: expected a duration"),
        ({"memory": "1KiB"}, "memory: expected 64KiB to 4GiB"),
        ({"args": ["a\0b"]}, "without a NUL"),
        ({"args": ["\udcff"]}, "UTF-8"),
        ({"args": [5]}, "texts"),
        ({"args": "Ada"}, "args is a list or tuple of texts, found 'Ada'"),
        ({"args": None}, "args is a list or tuple of texts, found None"),
        ({"args": [None]}, "texts"),
        ({"env": "A=b"}, "env is a mapping of texts, found 'A=b'"),
        ({"env": {5: "c"}}, "texts"),
        ({"env": {"A": None}}, "texts"),
        ({"name": 5}, "name is a text, found 5"),
        ({"name": "\udcff"}, "UTF-8"),
        ({"entry": 5}, "entry is the name of an exported function, found 5"),
        ({"input": 10**11}, "another buffer, or a text; found int 100000000000"),
        ({"input": None}, "the input is bytes, a bytearray, a memoryview"),
        ({"input": [1, 2]}, "found list [1, 2]"),
        ({"input": "\udcff"}, "the input cannot be written as UTF-8: found '\\udcff'"),
        ({"input": "12345"}, "the input is longer than limits.input, 4"),
        ({"input": array("i", [1, 2])}, "the input is longer than limits.input, 4"),
        ({"log_lines_max": 0}, "log_lines_max: expected 1 to 262144, found 0"),
        ({"log_lines_max": 262_145}, "log_lines_max: expected 1 to 262144"),
        ({"log_lines_max": 1.5}, "expected a whole number"),
        ({"env": {"A=B": "c"}}, "'A=B' cannot name"),
        ({"env": {"": "c"}}, "cannot name"),
        ({"args": ["x" * (1 << 21)]}, "args and env take"),
        ({"input": b"12345678"}, "the input is longer than limits.input, 4"),
    ],
)
def test_what_cannot_be_done_is_said(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with (
        spear.Spearlet.sync(**parts(tmp_path, limits__input=4)) as node,
        pytest.raises(InvalidArgument) as caught,
    ):
        node.run(WASM, **options)
    assert said in str(caught.value)


def test_a_bad_source_is_said(tmp_path: Path) -> None:
    with spear.Spearlet.sync(**parts(tmp_path, limits__module=12)) as node:
        with pytest.raises(InvalidArgument, match=r"cannot read .*nothing"):
            node.run(tmp_path / "nothing.wasm")
        with pytest.raises(InvalidArgument, match="Is a directory"):
            node.run(tmp_path)
        with pytest.raises(InvalidArgument, match="cannot read"):
            node.load("a\0b")
        with pytest.raises(InvalidArgument, match=r"longer than limits\.module, 12"):
            node.run(b"stub" * 4)
        with pytest.raises(InvalidArgument, match=r"longer than limits\.module, 12"):
            node.run(memoryview(b"stub" * 4))
        for source in (10**11, None, [1]):
            with pytest.raises(InvalidArgument, match="a module not named by its path is bytes"):
                node.run(source)  # type: ignore[arg-type]
        with pytest.raises(ModuleInvalid):
            node.run(b"neither")


@pytest.mark.parametrize(
    "data", [bytearray(b"1234"), memoryview(b"1_2_3_4")[::2], array("B", b"1234"), "1234"]
)
def test_input_is_any_buffer_or_text(data: Any, tmp_path: Path) -> None:
    with spear.Spearlet.sync(**parts(tmp_path, limits__input=4)) as node:
        assert node.run(bytearray(WASM), input=data).output == b"1234"


def test_input_is_copied(tmp_path: Path) -> None:
    known = parts(tmp_path, park)
    with spear.Spearlet.sync(**known) as node:
        data = bytearray(b"before")
        node.start(WASM, input=data)
        data[:] = b"after."
        data += b"may grow"
    assert known["runtime"].runs[0].invocation.stdin == b"before"


def test_questions_are_checked(tmp_path: Path) -> None:
    with spear.Spearlet.sync(**parts(tmp_path)) as node:
        with pytest.raises(InvalidArgument, match="expected one of pending, running"):
            node.executions(status="done")
        with pytest.raises(InvalidArgument, match="a limit of 1 to 10000"):
            node.executions(limit=0)
        with pytest.raises(InvalidArgument, match="a whole number"):
            node.executions(limit=1.5)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            node.execution("x")


async def test_a_handle_follows_waits_and_cancels(tmp_path: Path) -> None:
    known = parts(tmp_path, park)
    async with spear.Spearlet(**known) as node:
        handle = await node.start(WASM)
        assert handle.execution.status == "running"
        seen = []
        async for progress in handle.follow():
            seen += [line.message for line in progress.logs]
            seen.append(progress.output)
            if b"more" in progress.output:
                assert (await handle.cancel("enough")).status == "terminated"
            elif not progress.ended:
                known["runtime"].runs[0].write(b"more")
        assert seen == ["waiting", b"", b"more", b""]
        assert (await handle).status == "terminated"
        assert handle.ended


def test_a_sync_handle_follows_and_waits(tmp_path: Path) -> None:
    known = parts(tmp_path, park)
    with spear.Spearlet.sync(**known) as node:
        handle = node.start(WASM)
        with pytest.raises(TimeoutError, match="has not ended after 0ms"):
            handle.wait(0)
        run = known["runtime"].runs[0]
        thread = threading.Thread(target=lambda: (run.write(b"out"), run.finish()))
        thread.start()
        output = b"".join(progress.output for progress in handle.follow())
        thread.join()
        assert output == b"out"
        assert handle.wait().output == b"out"
        assert node.cancel(handle.id).status == "completed"


async def test_handles_of_both_faces_wait_for_their_time(tmp_path: Path) -> None:
    known = parts(tmp_path, park)

    def wait_in_a_thread(handle: SyncHandle) -> None:
        for timeout in (0, 0.001, "1ms"):
            with pytest.raises(TimeoutError, match="has not ended after"):
                handle.wait(timeout)
        for timeout in (-1, "-1s", "400d", "soon", float("nan")):
            with pytest.raises(InvalidArgument, match="timeout: expected"):
                handle.wait(timeout)

    async with spear.Spearlet(**known) as node:
        handle = await node.start(WASM)
        twin = SyncHandle(handle._services, handle._live)
        await asyncio.to_thread(wait_in_a_thread, twin)
        for timeout in (0, 0.001, "1ms"):
            with pytest.raises(TimeoutError, match="has not ended after"):
                await handle.wait(timeout)
        for timeout in (-1, "-1s", "400d", "soon", float("nan")):
            with pytest.raises(InvalidArgument, match="timeout: expected"):
                await handle.wait(timeout)
        assert not handle.ended
        known["runtime"].runs[0].finish()
        assert (await handle.wait("1s")).completed
        assert (await handle.wait(0)).completed


def test_both_handles_have_the_same_methods() -> None:
    names = {name for name in dir(Handle) if not name.startswith("_")}
    assert names == {name for name in dir(SyncHandle) if not name.startswith("_")}


async def test_a_handle_s_record_is_complete_once_the_guest_has_ended(tmp_path: Path) -> None:
    async with spear.Spearlet(**parts(tmp_path)) as node:
        handle = await node.start(WASM, input=b"payload")
        assert handle.ended
        assert (handle.execution.status, handle.execution.output) == ("completed", b"payload")


async def test_idle_followers_take_no_threads_and_leave_the_node_free(tmp_path: Path) -> None:
    known = parts(tmp_path, lambda run: None if run.invocation.args[-1] == "idle" else echo(run))
    async with spear.Spearlet(**known) as node:
        artifact = await node.load(WASM)
        threads = threading.active_count()
        handles = [await node.start(artifact, args=["idle"]) for _ in range(500)]
        follows = [asyncio.create_task(anext(handle.follow())) for handle in handles]
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(node.run(artifact), 60)).completed
        known["runtime"].runs[7].log("one line")
        progress = await asyncio.wait_for(follows[7], 60)
        assert [line.message for line in progress.logs] == ["one line"]
        assert threading.active_count() <= threads  # one of an earlier test may end meanwhile
        for run in known["runtime"].runs:
            run.finish()
        assert all(p.ended for p in await asyncio.gather(*follows[:7], *follows[8:]))


def test_the_lines_kept_for_a_reader_are_the_caller_s_choice(tmp_path: Path) -> None:
    known = parts(tmp_path)
    with spear.Spearlet.sync(**known) as node:
        node.run(WASM)
        node.run(WASM, log_lines_max=262_144)
    assert [r.invocation.log_lines_max for r in known["runtime"].runs] == [2048, 262_144]


def test_a_node_that_is_closed_says_so_in_the_records(tmp_path: Path) -> None:
    node = spear.Spearlet.sync(**parts(tmp_path, park))
    handle = node.start(WASM)
    with pytest.raises(InvalidArgument, match="grace: expected 0 to 365d, found -1"):
        node.close(-1)
    node.close()
    error = handle.execution.error
    assert error is not None
    assert "the node was closed" in error.message


async def test_cancelling_a_run_ends_its_guest(tmp_path: Path) -> None:
    known = parts(tmp_path, park)
    async with spear.Spearlet(**known) as node:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(node.run(WASM), 0.05)
        assert known["runtime"].runs[0].outcome.status == "terminated"
        assert (await node.executions())[0].status == "terminated"


def test_a_closed_node_takes_no_more(tmp_path: Path) -> None:
    node = spear.Spearlet.sync(**parts(tmp_path))
    node.close()
    node.close("1s")
    with pytest.raises(NodeClosed):
        node.run(WASM)


def test_settings_are_as_strong_as_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPEARLET_NODE_NAME", "from-environment")
    with spear.Spearlet.sync({"limits.timeout": "3s"}, runtime=StubRuntime()) as node:
        assert node.config.timeout_ns == 3 * 10**9
        assert node.config.node_name == "from-environment"
    with pytest.raises(InvalidArgument, match=r"nearest known one is 'limits\.timeout'"):
        spear.Spearlet.sync({"limits.timout": "3s"})
