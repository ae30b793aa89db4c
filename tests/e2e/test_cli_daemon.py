"""A node and its command as users see them: started, used, stopped, killed and started again."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SCRIPT, guest_path
from rocksdict import Options, Rdict

from spear.client.client import Client

pytest.importorskip("spear._core.executor")
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the commands are not installed")
SPEARLET = SCRIPT.with_name("spearlet")
UP = ("up", "--grpc-addr", "127.0.0.1:0")


class Home:
    """A user with a home of its own, who starts nodes and gives commands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(path), "XDG_CACHE_HOME": str(path / "cache"),
            "SPEARLET_STORAGE_DATA_DIR": str(self.data),
            "SPEARLET_GRPC_ADDR": "127.0.0.1:1",  # where no other node of the machine is
        }  # fmt: skip

    def start(
        self, *words: str | Path, program: Path = SCRIPT, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [program, *words], env={**self.environment, "TERM": "xterm"}, cwd=self.path,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip

    def __call__(
        self, *words: str | Path, input: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [SCRIPT, *words], env=self.environment, cwd=self.path, input=input,
            capture_output=True, timeout=60,
        )  # fmt: skip

    def json(self, *words: str | Path) -> Any:
        done = self(*words, "--output", "json")
        assert done.stderr == b""
        return json.loads(done.stdout)

    def up(self) -> dict[str, Any]:
        """Starts a node in the background; what its ports file says."""
        ports = self.path / "ports.json"
        done = self(*UP, "--detach", "--ports-file", ports)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(ports.read_text())
        return found

    def down(self) -> None:
        assert self("node", "drain", "--grace", "5s").returncode == 0


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("h"))  # short: a socket's path has 107 bytes


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A user whose node runs; the tests have tasks of their own names."""
    found = Home(tmp_path_factory.mktemp("n"))
    found.up()
    yield found
    found.down()


def running(home: Home, task: str) -> dict[str, Any]:
    """The execution of a task, once its guest has said something."""
    while True:
        for found in home.json("ls", "--task", task, "--status", "running"):
            if home("logs", found["id"]).stdout:
                return found  # type: ignore[no-any-return]


# The command and a node


def test_a_task_is_registered_and_invoked(node: Home) -> None:
    said = node("task", "register", guest_path("answer/answer"), "--name", "answer")
    sentence = b"task answer is registered, version 1 (durability: power)\n"
    assert (said.returncode, said.stdout) == (0, sentence)
    called = node("invoke", "answer", "--", "Ada", input=b"to be or not to be")
    assert (called.returncode, called.stdout.splitlines()[0]) == (0, b"Dear Ada,")
    assert b"answer" in node("ls", "tasks").stdout


def test_work_is_submitted_followed_and_forgotten(node: Home) -> None:
    id = node("submit", guest_path("hello")).stdout.decode().strip()
    assert node("wait", id[-8:]).returncode == 0
    assert node("result", id[-8:]).stdout == b"Hello, SPEAR!\n"
    lines = [json.loads(line) for line in node("logs", id, "--output", "json").stdout.splitlines()]
    assert lines[0]["message"] == "hello from a guest"
    assert node("status", id[-8:]).returncode == 0
    assert node("rm", id).returncode == 0
    assert node("result", id).returncode == 3


def test_a_log_is_followed_until_the_guest_is_cancelled(node: Home) -> None:
    id = node("submit", guest_path("loop/loop")).stdout.decode().strip()
    with node.start("logs", "-f", id) as follower:
        assert follower.stdout is not None
        assert b"looping for ever" in follower.stdout.readline()
        assert node("cancel", id, "--reason", "enough").returncode == 0
        assert follower.wait(30) == 0
    assert node.json("status", id)["status"] == "terminated"


@pytest.mark.parametrize("words", [("logs", "-f"), ("object", "watch", "shared/left")])
def test_who_follows_ends_once_nobody_reads(node: Home, words: tuple[str, ...]) -> None:
    id = node("submit", guest_path("loop/loop")).stdout.decode().strip()
    node("object", "put", "shared/left", input=b"1")
    what = [id] if words[0] == "logs" else ["--existing"]
    with node.start(*words, *what) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.stdout.close()  # no other line comes
        assert follower.wait(30) == 1
        assert follower.stderr is not None
        assert follower.stderr.read() == b""
    node("cancel", id)


RUNS = [
    ("hello", []), ("exit_code", ["--", "3"]), ("trap/trap", []), ("environ", ["--env", "A=1"]),
    ("wasi/echo", []), ("stdout_flood", []), ("loop/loop", ["--timeout", "200ms"]),
    ("recurse", []), ("no_start", []), ("component", []), ("memory_over_limit", []),
]  # fmt: skip


@pytest.mark.parametrize(("guest", "words"), RUNS, ids=lambda value: str(value))
def test_a_run_by_a_node_is_the_run_without_one(node: Home, guest: str, words: list[str]) -> None:
    address = f"unix:{node.data}/spearlet.sock"
    here = node("run", guest_path(guest), *words, input=b"payload")
    there = node("run", guest_path(guest), "--node", address, *words, input=b"payload")
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)


def test_a_run_by_a_node_shows_the_log_and_the_end_of_one_here(node: Home) -> None:
    address = f"unix:{node.data}/spearlet.sock"
    here = node("run", guest_path("trap/trap"))
    there = node("run", guest_path("trap/trap"), "--node", address)
    assert there.stderr == here.stderr


def test_an_interrupted_call_ends_its_guest(node: Home) -> None:
    node("task", "register", guest_path("loop/loop"), "--name", "interrupted")
    with node.start("invoke", "interrupted") as call:
        found = running(node, "interrupted")
        call.send_signal(signal.SIGINT)
        assert call.wait(30) == 130
    assert node.json("wait", found["id"])["status"] == "terminated"


def test_an_interrupted_wait_leaves_its_guest(node: Home) -> None:
    node("task", "register", guest_path("loop/loop"), "--name", "left")
    with node.start("submit", "left", "--wait") as waiting:
        found = running(node, "left")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130
    assert node.json("status", found["id"])["status"] == "running"
    node("cancel", found["id"])


class Terminal:
    """The stderr of a command, and what a person sees there."""

    def __init__(self, home: Home, *words: str | Path) -> None:
        self._ours, theirs = pty.openpty()
        self.process = home.start(*words, stderr=theirs)
        os.close(theirs)
        self.shown = b""

    def until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self._ours, 4096)

    def end(self) -> tuple[bytes, bytes]:
        """What the command wrote to stdout, and what is left to see of its stderr."""
        try:
            while part := os.read(self._ours, 4096):
                self.shown += part
        except OSError:  # nobody holds the other end any more
            pass
        os.close(self._ours)
        out, _ = self.process.communicate(timeout=60)
        return out, self.shown.rpartition(b"\x1b[2K")[2]


def test_an_upload_is_shown_while_it_goes_on(node: Home) -> None:
    sent = Terminal(node, "artifact", "put", guest_path("answer/answer"))
    sent.until(b"sending answer.wasm")
    out, left = sent.end()
    assert sent.process.returncode == 0
    assert left.strip().endswith(b"answer.wasm is kept (durability: power)"), "no bar is left"
    found = node.json("artifact", "show", out.decode().strip())
    assert f"{found['size'] / 1000:.1f}/{found['size'] / 1000:.1f} kB".encode() in sent.shown


def test_a_wait_is_shown_until_it_is_over(node: Home) -> None:
    id = node("submit", guest_path("loop/loop")).stdout.decode().strip()
    waited = Terminal(node, "wait", id)
    waited.until(b"waiting for " + id[-8:].encode())
    assert node("cancel", id).returncode == 0
    out, left = waited.end()
    assert out.startswith(b"terminated in ")
    assert waited.process.returncode == 1
    assert b"waiting" not in left


def test_objects_go_in_and_out(node: Home) -> None:
    data = bytes(range(256)) * 1000
    assert node("object", "put", "shared/e2e", "-", "--durable", input=data).returncode == 0
    assert node("object", "get", "shared/e2e").stdout == data
    assert node.json("object", "stat", "shared/e2e")["durability"] == "power"


def test_a_schedule_is_kept(node: Home) -> None:
    node("task", "register", guest_path("hello"), "--name", "scheduled")
    words = ["--cron", "0 6 * * 1-5", "--name", "s"]
    assert node("schedule", "add", "scheduled", *words).returncode == 0
    assert node.json("schedule", "show", "s")["spec"]["cron"] == "0 6 * * 1-5"
    assert node("schedule", "rm", "s").returncode == 0


def test_a_task_file_is_submitted_and_updated(node: Home) -> None:
    (node.path / "agent.wasm").write_bytes(guest_path("hello").read_bytes())
    text = 'name = "filed"\nartifact = "agent.wasm"\n'
    (node.path / "spear.toml").write_text(text)
    first = node("submit", "-f", "spear.toml", "--wait")
    assert (first.returncode, first.stdout) == (0, b"Hello, SPEAR!\n")
    (node.path / "spear.toml").write_text(text + 'priority = "high"\n')
    assert b"task filed is at version 2 now" in node("submit", ".", "--wait").stderr
    assert node.json("task", "show", "filed")["spec"]["priority"] == "high"


def test_doctor_finds_the_node(node: Home) -> None:
    found = {finding["name"]: finding for finding in node.json("doctor")}
    assert found["node"]["verdict"] == "ok"
    assert found["data"]["found"].startswith(str(node.data))


def test_grpc_wants_the_token_and_finds_it(node: Home) -> None:
    port = json.loads((node.path / "ports.json").read_text())["grpc"]
    assert node("ls", "tasks", "--node", port).returncode == 0
    (node.path / "other").write_text("x" * 64)
    (node.path / "other").chmod(0o600)
    node.environment["SPEARLET_AUTH_TOKEN_FILE"] = str(node.path / "other")
    try:
        refused = node("ls", "tasks", "--node", port)
    finally:
        del node.environment["SPEARLET_AUTH_TOKEN_FILE"]
    assert (refused.returncode, b"token" in refused.stderr) == (4, True)


async def test_the_library_talks_to_it_too(node: Home) -> None:
    async with Client(f"unix:{node.data}/spearlet.sock") as client:
        artifact = await client.put_artifact(guest_path("hello").read_bytes())
        assert (await client.artifact(artifact.digest[:8])) == artifact


# Starting and stopping


def test_up_in_the_background_says_where_it_is_and_drain_ends_it(home: Home) -> None:
    said = home(*UP, "--detach")
    assert said.returncode == 0
    text = said.stdout.decode()
    assert f"socket  {home.data}/spearlet.sock" in text
    assert f"data    {home.data}" in text
    assert "stop    spear node drain (process " in text
    assert home("node", "status").returncode == 0
    home.down()
    pid = int(text.partition("(process ")[2].partition(")")[0])
    await_end(pid)
    assert home("ls").returncode == 5


def await_end(pid: int) -> None:
    """Of a process that is not our child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [], 30)
    os.close(pidfd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("program", "words"), [(SCRIPT, UP), (SPEARLET, UP[1:])])
def test_a_node_in_the_foreground_ends_in_order(
    home: Home, program: Path, words: tuple[str, ...], number: signal.Signals
) -> None:
    with home.start(*words, "--log-file", "log", program=program) as node:
        assert node.stdout is not None
        lines = [node.stdout.readline().decode() for _ in range(2)]
        assert lines[0] == f"spearlet ready: socket {home.data}/spearlet.sock\n"
        assert lines[1].startswith("spearlet ready: grpc 127.0.0.1:")
        assert home("ls").returncode == 0
        node.send_signal(number)
        assert node.wait(30) == 0
        assert node.stderr is not None
        shown = node.stderr.read().decode()
    port = lines[1].split()[-1]
    assert (f"gRPC    {port} (" in shown) == (program == SCRIPT)  # what was bound, once it was
    assert not (home.data / "spearlet.sock").exists()


def test_one_data_directory_is_one_node_s(home: Home) -> None:
    home.up()
    (home.data / "spearlet.err").write_text("said by the node that runs")
    try:
        for words in (UP, (*UP, "--detach")):
            again = home(*words)
            assert (again.returncode, again.stdout) == (4, b""), again.stderr
            assert again.stderr.startswith(b"error: the data directory")  # no screen before it
            assert str(home.data).encode() in again.stderr
        assert (home.data / "spearlet.err").read_text() == "said by the node that runs"
        assert [path.name for path in home.data.glob("*.err*")] == ["spearlet.err"]
    finally:
        home.down()


def test_a_start_in_the_background_gets_files_of_its_own(home: Home) -> None:
    home.data.mkdir(mode=0o700)
    (home.data / "spearlet.err").write_text("of a node that was")
    home.environment["SPEARLET_LOG_LEVEL"] = "error"
    said = home(*UP, "--detach")
    try:
        assert f"log     {home.data}/spearlet.log\n" in said.stdout.decode()
        assert (home.data / "spearlet.log").read_bytes() == b""
        assert (home.data / "spearlet.err").read_bytes() == b""
        assert (home.data / "spearlet.err").stat().st_mode & 0o777 == 0o600
    finally:
        home.down()


def test_the_screen_of_another_node_names_it(home: Home) -> None:
    other = home.path / "other"
    said = home(*UP, "--detach", "--storage-path", other).stdout.decode()
    option = f"--node unix:{other}/spearlet.sock"
    assert f"try     spear task register {option} FILE.wasm" in said
    assert f"stop    spear node drain {option} (process " in said
    assert home("node", "drain", *option.split()).returncode == 0


def test_a_quiet_start_in_the_background_says_where_it_answers(home: Home) -> None:
    first, second = home(*UP, "--detach", "--quiet").stdout.decode().splitlines()
    home.down()
    assert first == f"spearlet ready: socket {home.data}/spearlet.sock"
    assert second.startswith("spearlet ready: grpc 127.0.0.1:")


@pytest.mark.parametrize("words", [[], ["--detach"], ["--quiet"]])
def test_a_log_that_cannot_be_written_is_no_start(home: Home, words: list[str]) -> None:
    said = home(*UP, *words, "--log-file", home.path)
    assert (said.returncode, said.stdout) == (2, b"")
    assert (
        said.stderr == f"error: logging.file: cannot write '{home.path}': Is a directory\n".encode()
    )


# A node's data


def test_a_backup_is_restored_and_counted_for_programs(home: Home) -> None:
    home.up()
    home("task", "register", guest_path("hello"))
    assert home.json("node", "backup", "kept")["artifacts"] == 1
    home.down()
    found = home.json("node", "restore", "kept", "--storage-path", "new")
    assert (found["artifacts"], found["rows"] > 0) == (1, True)
    again = home("node", "restore", "kept", "--storage-path", "new", "--output", "json")
    assert (again.returncode, again.stderr) == (4, b"")
    assert json.loads(again.stdout)["error"]["code"] == "ALREADY_EXISTS"


def test_a_node_starts_on_what_is_left_once_the_loss_is_accepted(home: Home) -> None:
    home.up()
    home("task", "register", guest_path("hello"))
    busy = home("node", "accept-loss")
    assert (busy.returncode, b"is in use by the daemon" in busy.stderr) == (4, True)
    home.down()
    (home.data / "metadata" / "SPEAR-SYNCED").write_bytes(b"nonsense")
    for words in (UP, (*UP, "--detach")):
        refused = home(*words)
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert b"restore a backup, or give up what is lost by `spear node acc" in refused.stderr
    found = home("node", "accept-loss")
    assert (found.returncode, b"left, what is lost is given up" in found.stdout) == (0, True)
    home.up()
    try:
        assert home("invoke", "hello").stdout == b"Hello, SPEAR!\n"
    finally:
        home.down()


def test_what_is_lost_is_told_row_by_row(home: Home) -> None:
    home.up()
    home("task", "register", guest_path("hello"))
    ids = [home("submit", "hello").stdout.decode().strip() for _ in range(25)]
    for id in ids:
        home("wait", id)
    home.down()
    db = Rdict(str(home.data / "metadata"), Options(raw_mode=True))
    for id in ids:
        db[b"exec/" + id.encode()] = b"no record"
    db.close()
    refused = home(*UP)
    assert (refused.returncode, b"spear node accept-loss" in refused.stderr) == (1, True)
    said = home("node", "accept-loss").stdout.decode().splitlines()
    assert [line for line in said if line.startswith("lost: ")] == [
        f"lost: key b'exec/{id}'" for id in ids[:20]
    ]
    assert "and 5 more: the list below has them all" in said
    assert said[-2].endswith("metadata.damaged")
    listed = said[-1].removeprefix("what was given up last is listed in ")
    assert len(json.loads(Path(listed).read_bytes())["lost"]) == 25
    again = home.json("node", "accept-loss")
    assert (again["lost"], again["kept_in"], again["listed_in"]) == ([], "", listed)
    home.up()
    home.down()


def test_there_is_no_loss_to_accept_where_nothing_was_kept(home: Home) -> None:
    said = home("node", "accept-loss", "--storage-path", "nothing")
    assert (said.returncode, b"is no data directory of a node" in said.stderr) == (3, True)
    assert not (home.path / "nothing").exists()


def test_what_was_kept_is_there_after_a_kill(home: Home) -> None:
    pid = home.up()["pid"]
    home("task", "register", guest_path("hello"))
    id = home("submit", "hello").stdout.decode().strip()
    assert home("wait", id).returncode == 0
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    assert home("ls").returncode == 5
    home.up()
    try:
        assert home("result", id).stdout == b"Hello, SPEAR!\n"
        assert home("invoke", "hello").returncode == 0
    finally:
        home.down()


@pytest.mark.parametrize("flag", ["--http-addr", "--sms-grpc-addr"])
def test_what_is_not_served_is_refused_with_the_reason(home: Home, flag: str) -> None:
    said = home("up", flag, "127.0.0.1:0")
    assert said.returncode == 2
    assert b"is not served" in said.stderr


def test_a_start_that_fails_in_the_background_says_why(home: Home) -> None:
    home.data.write_text("a file")
    said = home(*UP, "--detach")
    assert said.returncode in (2, 4)
    assert said.stderr.startswith(b"error: ")


VERBS = ["ls", "status", "wait x", "invoke x", "submit x", "task ls", "object ls", "node status"]


@pytest.mark.parametrize("words", VERBS)
def test_without_a_node_every_verb_says_how_to_get_one(home: Home, words: str) -> None:
    said = home(*words.split())
    assert said.returncode == 5
    assert said.stderr.startswith(b"error: no node answers")
    assert b"hint: spear up starts a node" in said.stderr
