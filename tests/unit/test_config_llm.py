"""The tables of models: what is read, what stands without them, what is refused and how."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear import config as configuration
from spear import config_llm
from spear.config_llm import LlmSettings, Price
from spear.errors import InvalidArgument

KEY = "sk-canary-93kfu20dkq"
FULL = """
retries = 1
[[credentials]]
name = "openai"
kind = "env"
api_key_env = "OPENAI_API_KEY"
[[backends]]
name = "gpt"
kind = "openai_chat_completion"
base_url = "https://api.example.com/v1/"
hosting = "remote"
model = "gpt-4o-mini"
credential_ref = "openai"
weight = 7
priority = 3
ops = ["chat_completions", "embeddings"]
features = ["supports_tools"]
transports = ["http"]
concurrency = 4
requests_per_minute = 60
timeout = "30s"
[[backends]]
name = "claude"
kind = "anthropic_messages"
hosting = "remote"
credential_ref = "CLAUDE_KEY"
[discovery.ollama]
enabled = true
scope = "installed"
allow_models = ["llama*"]
max_models = 3
[[prices]]
model = "gpt-*"
prompt_usd_per_million = "0.15"
completion_usd_per_million = 0.6
[filter]
addr = "127.0.0.1:7070"
timeout = "50ms"
on_failure = "allow"
"""
BACKEND = "[[backends]]\nname = 'a'\nkind = 'stub'\nhosting = 'local'\n"


def parsed(text: str) -> LlmSettings:
    return config_llm.parse(tomllib.loads(text), "file x")


def test_everything_that_can_be_said_is_read() -> None:
    settings = parsed(FULL)
    gpt, claude = settings.backends
    assert gpt.spec.credential_ref == "OPENAI_API_KEY"
    assert gpt.spec.base_url == "https://api.example.com/v1"
    assert (gpt.spec.weight, gpt.spec.priority, gpt.spec.model) == (7, 3, "gpt-4o-mini")
    assert (gpt.spec.ops, gpt.spec.features) == (
        ("chat_completions", "embeddings"), ("supports_tools",),
    )  # fmt: skip
    assert (gpt.concurrency, gpt.requests_per_minute, gpt.timeout_ns) == (4, 60, 30 * 10**9)
    assert claude.spec.credential_ref == "CLAUDE_KEY"
    assert claude.spec.base_url == "https://api.anthropic.com"
    assert (settings.ollama.scope, settings.ollama.models_max) == ("installed", 3)
    assert settings.prices == (Price(model="gpt-*", prompt=150_000_000, completion=600_000_000),)
    assert (settings.filter.address, settings.filter.on_failure) == ("127.0.0.1:7070", "allow")
    assert settings.retries == 1


def test_without_tables_there_is_one_stub(tmp_path: Path) -> None:
    for config in (configuration.load(environ={}), _loaded(tmp_path, "[spearlet.llm]\n")):
        assert config.llm == config_llm.DEFAULT
    names = [key for key, *_ in configuration.load(environ={}).rows() if key.startswith("llm.")]
    assert names == ["llm.backends.stub", "llm.discovery.ollama", "llm.filter", "llm.retries"]


def _loaded(tmp_path: Path, text: str) -> configuration.Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return configuration.load(str(path), environ={})


def test_what_is_shown_names_the_source_and_the_variable(tmp_path: Path) -> None:
    text = FULL.replace("[[", "[[spearlet.llm.").replace("[d", "[spearlet.llm.d")
    text = "[spearlet.llm]\n" + text.replace("[filter]", "[spearlet.llm.filter]")
    rows = {key: (value, source) for key, value, source, _ in _loaded(tmp_path, text).rows()}
    value, source = rows["llm.backends.gpt"]
    assert value.endswith("https://api.example.com/v1 model gpt-4o-mini key in $OPENAI_API_KEY")
    assert source == f"file {tmp_path}/config.toml"
    assert rows["llm.prices.0"][0] == "gpt-*: 0.15 + 0.6 USD a million tokens"


def test_a_kind_of_existing_deployments_is_kept_with_the_reason() -> None:
    kind = BACKEND.replace("stub", "openai_realtime_ws")
    (backend,) = parsed(kind).backends
    assert backend.unserved == "there is no audio in this build"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BACKEND + "wieght = 3", r"backends.0..wieght: unknown key; .* 'weight'"),
        (BACKEND + BACKEND, "there are two of the name 'a'"),
        (BACKEND.replace("stub", "stubb"), "expected one of openai_chat_completion, "),
        (BACKEND.replace("hosting = 'local'", ""), "hosting: is missing"),
        (BACKEND.replace("stub", "openai_chat_completion"), "base_url: is missing"),
        (BACKEND.replace("'a'", "'a b'"), "expected a name of letters"),
        (BACKEND + "ops = ['chat']", "expected one of chat_completions"),
        (BACKEND + "timeout = '1d'", "expected 10ms to 1h"),
        (BACKEND + "weight = -1", "expected a whole number from 0"),
        ("retires = 1", "retires: unknown key; the nearest known one is 'retries'"),
        ("[discovery.olama]\nenabled = true", "nearest known one is 'ollama'"),
        ("[discovery.ollama]\nbase_url = 'http://10.0.0.1:1'", "allow_remote = true"),
        ("[discovery.ollama]\nscope = 'all'", "expected one of serving, installed"),
        ("[[credentials]]\nname = 'a'", "api_key_env: is missing"),
        ("[[credentials]]\nname = 'a'\nkind = 'file'\napi_key_env = 'A'", "expected one of env"),
        ("[[prices]]\nmodel = 'a'\nprompt_usd_per_million = -1", "expected US dollars"),
        ("[[prices]]\nmodel = 'a'\nprompt_usd_per_million = true", "expected US dollars"),
        ("[[prices]]\nmodel = 'a'\nprompt_usd_per_million = 'nan'", "expected US dollars"),
        ("[[prices]]\nprompt_usd_per_million = 1", "model: is missing"),
        ("[filter]\naddr = 'x'", "expected HOST:PORT"),
        ("[filter]\non_failure = 'maybe'", "expected one of refuse, allow"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_is_accepted(text: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^file x: llm.*{sentence}"):
        parsed(text)


@pytest.mark.parametrize(
    "url", ["http://hä", "http://h/a b", "http://h/?", "http://h/#", "http://"]
)
def test_an_address_that_no_client_can_use_is_refused_when_it_is_read(url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"base_url: expected http://HOST"):
        parsed(BACKEND.replace("stub", "openai_chat_completion") + f"base_url = '{url}'")


@pytest.mark.parametrize(
    "text",
    [
        BACKEND + f"api_key = '{KEY}'",
        BACKEND + f"key = '{KEY}'",
        BACKEND + f"token = ['{KEY}']",
        BACKEND + f"Authorization = '{KEY}'",
        BACKEND + f"client_secret = '{KEY}'",
        BACKEND + f"credential_ref = '{KEY}'",
        BACKEND + f"base_url = 'https://user:{KEY}@host/v1'",
        BACKEND + f"base_url = 'https://host/v1?key={KEY}'",
        f"[backends]\nname = 'a'\napi_key = '{KEY}'",
        f"[credentials]\nname = 'a'\napi_key = '{KEY}'",
        f"[[credentials]]\nname = 'a'\napi_key_env = '{KEY}'",
        f"[[credentials]]\nname = 'a'\napi_key = '{KEY}'",
        f"backends = ['{KEY}']",
        f"[discovery]\nollama = ['{KEY}']",
    ],
)
def test_a_key_in_a_file_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parsed(text)
    assert KEY not in str(caught.value)
    assert "canary" not in repr(caught.value.__context__)


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(["name", "kind", "backends", "credentials", "ollama", "base_url", "ops",
                         "prices", "model", "timeout", "filter", "discovery", "weight"]),
        inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["backends", "credentials", "prices", "filter",
                                        "discovery", "retries"]), _JUNK, max_size=3))  # fmt: skip
def test_whatever_the_tables_hold_only_a_refusal_is_raised(values: dict[str, object]) -> None:
    try:
        config_llm.parse(values, "x")
    except InvalidArgument as error:
        assert len(str(error)) < 2000


def test_a_backend_whose_operations_nothing_asks_for_is_unavailable() -> None:
    base = {"name": "b", "kind": "stub", "hosting": "local"}
    for ops, reason in (
        (["image_generation", "speech_to_text"],
         "nothing in this build asks for image_generation or speech_to_text"),
        (["image_generation", "embeddings"], ""),
    ):  # fmt: skip
        (made,) = config_llm.parse({"backends": [{**base, "ops": ops}]}, "x").backends
        assert made.unserved == reason
