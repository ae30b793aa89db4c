"""What a task file may say, and how it is refused, one sentence a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from spear.errors import InvalidArgument, NotFound
from spear.records.task import Directory, Limits, Pool, Resources, Retry, TaskSpec
from spear.spearlet import taskfile
from spear.spearlet.taskfile import TaskFile, parse

DIGEST = "0123456789abcdef" * 4
EVERYTHING = f"""
name = "greet"
runtime = "wasm"
description = "Greets."
artifact = {{path = "build/greet.wasm", checksum = "sha256:{DIGEST.upper()}"}}
entry = "main"
args = ["--polite", ""]
priority = "high"
concurrency = 4
queue = 50
endpoint = "Greet_1"
webhook = "http://127.0.0.1:9000/ended"
idempotency_key = "once"
dirs = [
    {{host = "data", guest = "/data", writable = true}},
    {{host = "/srv/models"}},
]

[env]
LANG = "C"
EMPTY = ""
API_KEY = {{from = "env:MY_KEY"}}

[config]
mode = "fast"

[metadata]
owner = "ada"

[resources]
cpu = 1.5
memory = "128MiB"

[limits]
timeout = "5s"
memory = "16MiB"
output = 1000
log = "1MiB"
fuel = 1_000_000

[retry]
attempts = 3
backoff = "250ms"
backoff_max = 10
on = ["TRAP", "OUTCOME_UNKNOWN"]

[pool]
min = 1
max = 8
idle = "1m"
isolation = "shared"

[objects]
grants = ["other"]
"""


def refusal(text: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        parse(text.encode(), "spear.toml", "/base")
    return str(caught.value)


def short(line: str) -> str:
    return f'name = "t"\nartifact = "t.wasm"\n{line}\n'


def test_everything_that_can_be_said() -> None:
    assert parse(EVERYTHING.encode(), "spear.toml", "/base") == TaskFile(
        path="/base/build/greet.wasm",
        idempotency_key="once",
        spec=TaskSpec(
            name="greet", artifact=DIGEST, description="Greets.", entry="main",
            args=("--polite", ""), env={"LANG": "C", "EMPTY": ""}, env_from={"API_KEY": "MY_KEY"},
            config={"mode": "fast"}, metadata={"owner": "ada"}, endpoint="greet_1",
            priority="high", concurrency=4, queue=50, webhook="http://127.0.0.1:9000/ended",
            limits=Limits(
                timeout_ns=5 * 10**9, memory_bytes=16 << 20, output_bytes=1000,
                log_bytes=1 << 20, fuel=1_000_000,
            ),
            resources=Resources(cpu_millis=1500, memory_bytes=128 << 20),
            retry=Retry(
                attempts=3, backoff_ns=250_000_000, backoff_max_ns=10 * 10**9,
                on=("TRAP", "OUTCOME_UNKNOWN"),
            ),
            pool=Pool(min=1, max=8, idle_ns=60 * 10**9, isolation="shared"),
            dirs=(
                Directory(host="/base/data", guest="/data", writable=True),
                Directory(host="/srv/models", guest="/srv/models"),
            ),
            object_grants=("other",),
        ),
    )  # fmt: skip


def test_models_and_calls_have_tables_of_their_own() -> None:
    text = short("""
[config]
"mcp.enabled" = "true"
[llm]
backends = ["local", "a,b"]
[budget]
calls = 20
tokens = 5000
time = "2m"
usd = 0.25
[calls]
tasks = ["search", "team-*"]
""")
    assert parse(text.encode(), "spear.toml", "/base").spec.config == {
        "mcp.enabled": "true", "llm.backends": '["local", "a,b"]', "budget.calls": "20",
        "budget.tokens": "5000", "budget.time": "2m", "budget.usd": "0.25",
        "tasks.allowed": '["search", "team-*"]',
    }  # fmt: skip


def test_what_is_not_said_is_as_a_record_has_it() -> None:
    found = parse(short("").encode(), "spear.toml", "/base")
    assert found == TaskFile(spec=TaskSpec(name="t", artifact=""), path="/base/t.wasm")


@pytest.mark.parametrize(
    ("artifact", "path", "digest"),
    [
        ('"../x.wasm"', "/x.wasm", ""),
        ('{path = "/a/b.wasm"}', "/a/b.wasm", ""),
        ('{uri = "file:///a/b%20c.wasm"}', "/a/b c.wasm", ""),
        (f'{{uri = "sha256:{DIGEST}"}}', "", DIGEST),
        (f'{{uri = "sha256:{DIGEST}", checksum = "{DIGEST}"}}', "", DIGEST),
    ],
)
def test_where_the_artifact_is(artifact: str, path: str, digest: str) -> None:
    found = parse(f'name = "t"\nartifact = {artifact}'.encode(), "spear.toml", "/base")
    assert (found.path, found.spec.artifact) == (path, digest)


@pytest.mark.parametrize("written", [DIGEST, f"sha256:{DIGEST.upper()}"])
def test_a_checksum_beside_the_artifact_is_its_own(written: str) -> None:
    found = parse(short(f'checksum = "{written}"').encode(), "spear.toml", "/base")
    assert (found.path, found.spec.artifact) == ("/base/t.wasm", DIGEST)


@pytest.mark.parametrize(
    ("artifact", "checksum", "sentence"),
    [
        ('"t.wasm"', "ab", "checksum: expected a sha256 in 64 hexadecimal digits, found 'ab'"),
        (f'{{path = "t", checksum = "{DIGEST}"}}', DIGEST, "checksum: is said in the artifact's"),
        (f'{{uri = "sha256:{DIGEST}"}}', "0" * 64, "spear.toml: checksum: is not that of the uri"),
    ],
)
def test_a_checksum_beside_the_artifact_is_told_where_it_stands(
    artifact: str, checksum: str, sentence: str
) -> None:
    text = f'name = "t"\nartifact = {artifact}\nchecksum = "{checksum}"'
    assert sentence in refusal(text)


@pytest.mark.parametrize(
    ("artifact", "sentence"),
    [
        ("7", "artifact: expected a table, found 7"),
        ("{}", "artifact: expected either path or uri, found {}"),
        ('""', "artifact.path: expected a text of 1 to 4096"),
        ('{path = "a", uri = "file:///b"}', "expected either path or uri"),
        ('{path = "a", checksum = "ab"}', "artifact.checksum: expected a sha256 in 64 hexadecimal"),
        ('{path = "a", sum = "ab"}', "artifact.sum: unknown key; the nearest known one is"),
        ('{uri = "https://a/b"}', "artifact.uri: this build fetches nothing: expected file:///"),
        ('{uri = "smsfile://1"}', "this build fetches nothing"),
        ('{uri = "file://host/b"}', "artifact.uri: expected file:///PATH or sha256:DIGEST"),
        ('{uri = "file:///a%00"}', "artifact.uri: expected file:///PATH"),
        ('{uri = "file:///a%ff"}', "artifact.uri: expected file:///PATH"),
        (f'{{uri = "sha256:{DIGEST}", checksum = "{"0" * 64}"}}', "artifact.checksum: is not that"),
    ],
)
def test_an_artifact_that_is_refused(artifact: str, sentence: str) -> None:
    assert sentence in refusal(f'name = "t"\nartifact = {artifact}')


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("zz = 3", "spear.toml: zz: unknown key; known are args, artifact"),
        ("pririty = 3", "spear.toml: pririty: unknown key; the nearest known one is 'priority'"),
        ('[limits]\ntimeuot = "1s"', "limits.timeuot: unknown key; the nearest known one is 'tim"),
        ('runtime = "process"', "runtime: this build runs wasm only, found 'process'"),
        ('runtime = "docker"', "runtime: expected one of wasm, process, container, found 'docker'"),
        ('[network]\nhosts = ["a"]', "network: is not served: agents have no network in this"),
        ("[mcp]", "mcp: is not served"),
        ('[llm]\nbackend = ["a"]', "llm.backend: unknown key; the nearest known one is 'backends'"),
        ("[budget]\ncalls = 0", "budget.calls: expected a whole number from 1 to"),
        ('[budget]\ntime = "a while"', "budget.time: expected a duration such as 250ms"),
        ("[budget]\nusd = -1", "budget.usd: expected an amount of US dollars above 0, found -1"),
        ('[budget]\nusd = "nan"', "budget.usd: expected an amount of US dollars above 0"),
        ('[config]\n"llm.backend" = "a"', "config: unknown key 'llm.backend'; the nearest known"),
        ('[config]\n"budget.calls" = "1"\n[budget]\ncalls = 2', "config: 'budget.calls' is said"),
        ('priority = "top"', "priority: expected one of urgent, high, normal, low, found 'top'"),
        ('args = "a"', "args: expected a list of at most 4096, found 'a'"),
        ("args = [1]", "args: expected a text of 0 to 65536 characters without NUL, found 1"),
        ('env = {"A=B" = "x"}', "env: 'A=B' cannot name an environment variable"),
        ("env = {A = 1}", """env: 'A': expected a text or {from = "env:NAME"}, found 1"""),
        ('env = {A = {from = "file:x"}}', "env: 'A': expected a text or {from"),
        ('env = {A = {from = "env:B=C"}}', "env: 'A': expected a text or {from"),
        ('env = {A = {from = "env:B", or = "x"}}', "env: 'A': expected a text or {from"),
        ('[resources]\ncpu = "two"', "resources.cpu: expected a number from 0.001 to 4096, found"),
        ("[resources]\ncpu = nan", "resources.cpu: expected a number"),
        ("[resources]\ncpu = true", "resources.cpu: expected a number"),
        ("[resources]\nmemory = 0", "resources.memory: expected 1 byte to 4096TiB, found 0"),
        ('[limits]\ntimeout = "5 parsecs"', "limits.timeout: expected a duration such as 250ms"),
        ("[limits]\ntimeout = 0", "limits.timeout: expected 1ms to 365d, found 0"),
        ('[limits]\nmemory = "8GiB"', "limits.memory: expected 64KiB to 4GiB, found 8GiB"),
        ("[limits]\noutput = 0", "limits.output: expected 1 byte or more, found 0"),
        ("[limits]\nfuel = 0", "limits.fuel: expected a whole number from 1 to"),
        ("limits = 7", "limits: expected a table, found 7"),
        ("[retry]\nattempts = 0", "retry.attempts: expected a whole number from 1 to 100, found 0"),
        ('[retry]\non = ["CANCELLED"]', "retry.on: expected one of TRAP, DEADLINE, NODE_BUSY"),
        ('[retry]\nbackoff = "-1s"', "retry.backoff: expected 0 to 365d, found '-1s'"),
        ("[pool]\nmin = 3\nmax = 2", "pool.max: expected 3, the minimum, or more, found 2"),
        ("[[dirs]]\nguest = '/x'", "dirs[1].host: expected the directory's path, found none"),
        ("dirs = [{host = 'a', writable = 1}]", "dirs[1].writable: expected true or false"),
        ('[objects]\ngrants = ["a/b"]', "objects.grants: a task's name is 1 to 255 bytes"),
        ('endpoint = "a b"', "endpoint: expected 1 to 64 of a-z, 0-9, _ and -, found 'a b'"),
        ('webhook = "ftp://x"', "webhook: webhook 'ftp://x': expected http://HOST"),
        ("concurrency = 0", "concurrency: expected a whole number from 1 to 20000, found 0"),
        ("x = ", "spear.toml is not TOML"),
    ],
)
def test_a_refusal_names_file_key_what_was_found_and_what_is_accepted(
    line: str, sentence: str
) -> None:
    found = refusal(short(line))
    assert found.startswith("spear.toml")
    assert sentence in found


def test_a_task_needs_a_name_and_an_artifact() -> None:
    assert "name: a task has a name, found none" in refusal('artifact = "a"')
    assert "artifact: expected a path" in refusal('name = "a"')
    assert "name: a task's name is" in refusal('name = "a/b"\nartifact = "a"')


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe", b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000, b"x" * (1 << 20) + b"y",
        b"name = 't'\nartifact = 'a'\n" + b"k" * 1_000_000 + b" = 1",
        b"name = 't'\nartifact = 'a'\nlimits.timeout = '" + b"9" * 1_000_000 + b"x'",
        b"name = 't'\nartifact = 'a'\n#" + b" " * (1 << 20),
    ],
)  # fmt: skip
def test_bytes_that_are_no_task_file_are_refused_briefly(content: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(content, "spear.toml", "/base")
    assert len(str(caught.value)) < 1000


def test_a_file_or_its_folder_is_read_and_paths_begin_there(tmp_path: Path) -> None:
    (tmp_path / "spear.toml").write_text(short(""))
    for path in (tmp_path, tmp_path / "spear.toml"):
        assert taskfile.read(str(path)).path == str(tmp_path / "t.wasm")
    with pytest.raises(NotFound, match=r"no task file .*other\.toml"):
        taskfile.read(str(tmp_path / "other.toml"))
    for strange in ("\0", str(tmp_path / "spear.toml" / "x")):
        with pytest.raises(InvalidArgument, match="cannot read the task file"):
            taskfile.read(strange)
