"""A fake model server by hand: `python -m tests.fakes openai --port 8901`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from tests.fakes.anthropic import AnthropicFake
from tests.fakes.ollama import OllamaFake
from tests.fakes.openai import OpenAiFake
from tests.fakes.step import Step

FAKES = {"openai": OpenAiFake, "ollama": OllamaFake, "anthropic": AnthropicFake}


async def serve(arguments: argparse.Namespace) -> None:
    step = Step(
        text=arguments.text, repeat=arguments.repeat, delay_ms=arguments.delay_ms,
        status=arguments.status,
    )  # fmt: skip
    fake = FAKES[arguments.api](step, arguments.key)
    await fake.start(arguments.host, arguments.port)
    print(fake.url, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await fake.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__)
    parser.add_argument("api", choices=sorted(FAKES))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: one of the system's choice")
    parser.add_argument("--key", default="", help="refuse requests without this key")
    parser.add_argument("--text", help="answer this; else what the request suggests")
    parser.add_argument("--repeat", type=int, default=1, help="say it so often")
    parser.add_argument("--delay-ms", type=int, default=0, help="between the chunks of a stream")
    parser.add_argument("--status", type=int, default=200, help="answer with this HTTP status")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
