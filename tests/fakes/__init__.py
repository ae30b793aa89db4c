"""Servers that stand for those of models: OpenAI's, Ollama's and Anthropic's APIs on a local port.

async with OpenAiFake() as fake:            # or: python -m tests.fakes openai --port 0
    fake.script(Step(status=429, headers={"Retry-After": "1"}), Step(text="hello"))
    ... fake.url, fake.requests, fake.connections ...
"""
