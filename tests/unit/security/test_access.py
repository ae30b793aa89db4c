"""Who is let in from where, with what; which listeners are refused."""

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument, PermissionDenied, Unauthenticated
from spear.security.access import (
    LOOPBACK,
    REMOTE,
    UNIX,
    Access,
    check_listener,
    is_free,
    origin_of,
)
from spear.security.tokens import Token

TOKEN = "t" * 64


def access(*, loopback_open: bool = False, uid: int = 1000) -> Access:
    return Access(uid=uid, token=Token(TOKEN), loopback_open=loopback_open)


@pytest.mark.parametrize(("uid", "admitted"), [(1000, True), (0, True), (1001, False), (-1, False)])
def test_the_socket_knows_its_callers_by_their_user(uid: int, admitted: bool) -> None:
    refusal = access().refusal(UNIX, uid=uid)
    assert (refusal is None) is admitted
    assert admitted or isinstance(refusal, PermissionDenied)


def test_a_token_does_not_make_a_stranger_a_friend_on_the_socket() -> None:
    assert isinstance(access().refusal(UNIX, uid=1001, token=TOKEN), PermissionDenied)
    assert isinstance(access(loopback_open=True).refusal(UNIX, uid=1001), PermissionDenied)


@pytest.mark.parametrize("origin", [LOOPBACK, REMOTE])
def test_tcp_wants_the_token_loopback_included(origin: str) -> None:
    assert access().refusal(origin, token=TOKEN) is None
    assert access().header_refusal(origin, f"Bearer {TOKEN}") is None
    for wrong in ("", "x" * 64, TOKEN[:-1]):
        assert isinstance(access().refusal(origin, token=wrong), Unauthenticated)
        assert isinstance(access().refusal(origin, uid=0, token=wrong), Unauthenticated)
        assert isinstance(access().header_refusal(origin, f"Bearer {wrong}"), Unauthenticated)
    assert isinstance(access().header_refusal(origin, TOKEN), Unauthenticated)


def test_an_open_loopback_is_open_on_loopback_only() -> None:
    rules = access(loopback_open=True)
    assert rules.refusal(LOOPBACK) is None
    assert rules.header_refusal(LOOPBACK, "") is None
    assert rules.header_refusal(LOOPBACK, "Bearer wrong") is None
    assert isinstance(rules.refusal(REMOTE), Unauthenticated)
    assert isinstance(rules.header_refusal(REMOTE, ""), Unauthenticated)


def test_a_refusal_says_what_to_show_and_not_the_token() -> None:
    said = str(access().refusal(LOOPBACK, token="wrong-token"))
    assert "authorization: Bearer TOKEN" in said
    assert "wrong-token" not in said
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("/grpc.health.v1.Health/Check", True),
        ("/grpc.health.v1.Health/Watch", True),
        ("/grpc.health.v1.HealthX/Check", False),
        ("/grpc.health.v1.Health", False),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", False),
        ("/spearlet.InvocationService/Invoke", False),
        ("/x/grpc.health.v1.Health/Check", False),
        ("", False),
    ],
)
def test_only_health_is_free(path: str, free: bool) -> None:
    assert is_free(path) is free


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1", LOOPBACK), ("127.8.7.6", LOOPBACK), ("::1", LOOPBACK),
        ("localhost", LOOPBACK), ("::ffff:127.0.0.1", LOOPBACK),
        ("0.0.0.0", REMOTE), ("::", REMOTE), ("10.0.0.1", REMOTE), ("fe80::1%eth0", REMOTE),
        ("::ffff:10.0.0.1", REMOTE), ("127.0.0.1.example.org", REMOTE), ("localhost.", REMOTE),
        ("127.1", REMOTE), ("", REMOTE), ("2130706433", REMOTE),
    ],
)  # fmt: skip
def test_where_a_caller_comes_from(host: str, origin: str) -> None:
    assert origin_of(host) == origin


def test_off_loopback_a_listener_needs_tls() -> None:
    check_listener("grpc.addr", "127.0.0.1", tls=False)
    check_listener("grpc.addr", "::1", tls=False)
    check_listener("grpc.addr", "0.0.0.0", tls=True)
    with pytest.raises(InvalidArgument, match=r"grpc.addr: '0.0.0.0' is not loopback.*enable_tls"):
        check_listener("grpc.addr", "0.0.0.0", tls=False)
