"""A node is killed in the middle of its work and started again: nothing that it had said is untrue.

    python examples/survive/survive.py

Four agents are handed to a node that runs two at a time, and one more is asked at once. Then the
node's process is killed (SIGKILL), and another one is started on the same directory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import spear

EXAMPLES = Path(__file__).resolve().parents[1]


def start(folder: str) -> subprocess.Popen[str]:
    """A node's daemon, once it answers."""
    daemon = subprocess.Popen(
        [sys.executable, "-m", "spear.cli.spearlet", "--storage-path", folder,
         "--grpc-addr", "127.0.0.1:0", "--log-level", "error"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    print("  ", daemon.stdout.readline().strip())
    return daemon


def register(node: spear.SyncClient, name: str, *args: str) -> None:
    artifact = node.put_artifact((EXAMPLES / name / f"{name}.wasm").read_bytes())
    spec = spear.TaskSpec(name=name, artifact=artifact.digest, args=args, concurrency=2)
    node.register(spec)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/spearlet.sock"
        print("A node is started:")
        daemon = start(folder)
        with spear.Client.sync(address) as node:
            register(node, "answer", "Ada")
            register(node, "sleeper", "-1")
            answered = node.invoke("answer", b"What was said is kept.\n")
            print(f"   an agent answered, durability {answered.durability!r}")
            handed = [node.submit("sleeper") for _ in range(4)]
            states = [node.execution(one.id).status for one in handed]
            print(f"   four sleepers were accepted, durability {handed[0].durability!r}: {states}")
        daemon.kill()
        daemon.wait()
        print("Its process was killed. Another one is started:")
        daemon = start(folder)
        with spear.Client.sync(address) as node:
            again = node.execution(answered.id, include_output=True)
            same = again.output == answered.output
            print(f"   the answer is there: {again.status}, its output the same: {same}")
            for one in handed[:2]:
                ended = node.wait(one.id)
                code = ended.error.code if ended.error else ""
                print(f"   a sleeper that ran:    {ended.status}, {code}")
            for one in handed[2:]:
                print(f"   a sleeper that waited: {node.execution(one.id).status} now")
                node.cancel(one.id, "enough")
        daemon.terminate()
        return os.EX_OK if daemon.wait() == 0 and same else 1


if __name__ == "__main__":
    sys.exit(main())
