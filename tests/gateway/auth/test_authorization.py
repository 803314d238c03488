"""Authorizers decide before the tokens; whatever they do, a request is allowed or refused with a reason."""

import threading
from dataclasses import replace

import pytest
from gateway_in_process import GatewayInProcess, request

from gateway.auth.authorization import Authorization
from gateway.auth.plugin_authorizer import PluginAuthorizer
from marq.errors import AccessDenied, InvalidToken, ServiceUnavailable, Unauthorized
from marq.plugins.discovery import Found, Plugin
from marq.plugins.protocols import AUTHORIZERS, Access, Allow, Deny

LOCAL = "local-token"


def named(caller="", **changes):
    headers = [(b"X-Caller", caller.encode()), (b"X-Other", b"1")]
    return replace(Access("inference", "POST", "/predictions/m", headers, "m"), **changes)


class Authorizer:
    """Decides by the header X-Caller."""

    protocol = 1
    headers = ("x-caller",)

    def __init__(self, decide):
        self.asked = []
        self._decide = decide

    def decide(self, access):
        self.asked.append(access)
        return self._decide(access)


def plugin(decide, name="callers"):
    return Plugin(Found(AUTHORIZERS, name, "m:A", "callers", "1.0"), Authorizer(decide))


def guard_of(*plugins, required=False, limit_s=60.0):
    return Authorization(
        required, LOCAL if required else "", [PluginAuthorizer(each, limit_s) for each in plugins]
    )


async def test_the_caller_is_allowed_or_refused_with_the_reason():
    decisions = {"ann": Allow(), "bob": Deny("not today"), "": Deny("who are you?", 401)}
    guard = guard_of(plugin(lambda access: decisions[access.header("x-caller")]))
    await guard.authorize(named("ann"))
    with pytest.raises(AccessDenied, match="not today"):
        await guard.authorize(named("bob"))
    with pytest.raises(Unauthorized, match="who are you"):
        await guard.authorize(named())


async def test_an_authorizer_sees_what_is_asked():
    made = plugin(lambda access: Allow())
    access = named("ann", plane="management", method="DELETE", route="/models/m/2", version="2", subject="cn")
    await guard_of(made).authorize(access)
    assert made.made.asked == [access]


async def test_the_first_one_that_decides_wins():
    first, second, third = (plugin(lambda _, it=it: it) for it in (None, Allow(), Deny("never asked")))
    await guard_of(first, second, third).authorize(named())
    assert (len(first.made.asked), len(second.made.asked), len(third.made.asked)) == (1, 1, 0)


async def test_without_an_opinion_the_token_decides():
    with pytest.raises(InvalidToken):
        await guard_of(plugin(lambda _: None), required=True).authorize(named())
    await guard_of(plugin(lambda _: None), required=False).authorize(named())


async def test_commands_of_this_host_are_not_judged():
    made = plugin(lambda _: Deny("no"))
    own = named(headers=[(b"Authorization", f"Bearer {LOCAL}".encode())])
    await guard_of(made, required=True).authorize(own)
    with pytest.raises(AccessDenied):
        await guard_of(made, required=False).authorize(own)
    assert len(made.made.asked) == 1


@pytest.mark.parametrize("wrong", [lambda _: 1 / 0, lambda _: True, lambda _: exit(1)])
async def test_one_that_raises_or_returns_nonsense_refuses_and_is_logged(wrong, caplog):
    guard = guard_of(plugin(wrong))
    for _ in range(20):  # its threads stay
        with pytest.raises(ServiceUnavailable):
            await guard.authorize(named())
    assert "marq.authorizers callers (package callers 1.0, installed) failed" in caplog.text


async def test_one_that_hangs_refuses_after_its_time_and_others_go_on(caplog):
    held = threading.Event()
    guard = guard_of(plugin(lambda access: held.wait() and None, "hanging"), limit_s=0.2)
    with pytest.raises(ServiceUnavailable):
        await guard.authorize(named())
    assert "callers 1.0, installed) has not decided within 0.2 s" in caplog.text
    held.set()
    await guard_of(plugin(lambda _: Allow())).authorize(named())


async def test_a_decision_is_kept_for_its_time_for_the_same_question():
    made = plugin(lambda _: Allow(valid_for_s=1000))
    guard = guard_of(made)
    same = named("ann", headers=[(b"x-caller", b"ann"), (b"x-other", b"2")])
    for access in (named("ann"), named("ann"), same):
        await guard.authorize(access)
    assert len(made.made.asked) == 1
    others = [named("bob"), *(named("ann", **change) for change in (
        {"plane": "management"}, {"method": "PUT"}, {"route": "/other"}, {"model": "n"}, {"version": "2"},
        {"subject": "cn"}, {"headers": [(b"x-caller", b"ann"), (b"x-caller", b"bob")]},
    ))]  # fmt: skip
    for access in others:
        await guard.authorize(access)
    assert len(made.made.asked) == 1 + len(others)


async def test_a_decision_without_a_time_and_a_refusal_are_not_kept():
    for decision in (Allow(), Deny("no")):
        made = plugin(lambda _, it=decision: it)
        guard = guard_of(made)
        for _ in range(2):
            try:
                await guard.authorize(named())
            except AccessDenied:
                assert decision != Allow()
        assert len(made.made.asked) == 2


async def test_the_fast_path_takes_only_callers_that_are_known_to_be_allowed():
    gateway = GatewayInProcess()
    made = plugin(lambda _: Allow(valid_for_s=1000))
    guard = gateway.predictor._tokens = guard_of(made)
    protocol, transport = gateway.connect()
    # The first request goes to the ASGI application
    protocol.data_received(request(b"x", "X-Caller: ann"))
    assert await gateway.queued() == []
    # When the authorizer has allowed it there, the next one of the caller takes the fast path
    access = named("ann", route="/predictions/m", version=None)
    await guard.authorize(access)
    fast, transport = gateway.connect()
    fast.data_received(request(b"x", "X-Caller: ann"))
    [request_id] = await gateway.queued()
    gateway.reply(request_id)
    assert transport.written.startswith(b"HTTP/1.1 200")
    # and that of another caller does not
    other, _ = gateway.connect()
    other.data_received(request(b"x", "X-Caller: bob"))
    assert len(await gateway.queued()) == 1
