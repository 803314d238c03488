"""Observers see every finished request some time later; a slow or broken one delays nothing."""

import logging
import re
import threading

import pytest
from gateway_in_process import GatewayInProcess, request
from support import wait_for

from gateway.observers.observing import Observing
from marq.plugins.discovery import Found, Plugin
from marq.plugins.protocols import OBSERVERS


class Observer:
    protocol = 1

    def __init__(self, act=lambda finished: None):
        self.seen = []
        self._act = act

    def observe(self, finished):
        self._act(finished)
        self.seen += finished


@pytest.fixture
def observe():
    made = []

    def observe(observer, **options):
        made.append(Observing(Plugin(Found(OBSERVERS, "bill", "m:A", "bills", "1.0"), observer), **options))
        return made[-1]

    yield observe
    for each in made:
        each.end(60)


async def predict(gateway, *bodies, status=200):
    """Predictions of one client, all answered with `OK`."""
    protocol, _ = gateway.connect()
    for number, body in enumerate(bodies, 1):
        protocol.data_received(request(body))
        request_id = (await gateway.queued())[-1]
        assert len(await gateway.queued()) >= number
        gateway.reply(request_id, status=status)


async def test_each_answer_is_seen_with_its_model_status_and_sizes(observe):
    observer = Observer()
    observing = observe(observer)
    gateway = GatewayInProcess([observing])
    await predict(gateway, b"x", b"four", status=200)
    await predict(gateway, b"abc", status=418)
    observing.end(60)
    assert [(each.model, each.version, each.kind) for each in observer.seen] == [
        ("m", "1.0", "prediction")
    ] * 3
    assert [(each.status, each.request_bytes, each.answer_bytes) for each in observer.seen] == [
        (200, 1, 2), (200, 4, 2), (418, 3, 2),
    ]  # fmt: skip
    assert all(each.seconds >= 0 and each.ended > 1e9 for each in observer.seen)


async def test_a_client_that_goes_away_is_seen_as_499(observe):
    observer = Observer()
    observing = observe(observer)
    gateway = GatewayInProcess([observing])
    protocol, _ = gateway.connect()
    protocol.data_received(request(b"x"))
    await gateway.queued()
    protocol.connection_lost(None)
    observing.end(60)
    assert [each.status for each in observer.seen] == [499]


async def test_one_that_raises_is_logged_and_asked_again(observe, caplog):
    failing = iter([True])

    def act(finished):
        if next(failing, False):
            raise SystemExit("the ledger is closed")

    observer = Observer(act)
    observing = observe(observer, pause_s=0)
    gateway = GatewayInProcess([observing])
    await predict(gateway, b"lost")
    wait_for(lambda: observing.dropped == 1)
    await predict(gateway, b"seen")
    observing.end(60)
    assert [each.request_bytes for each in observer.seen] == [4]
    assert (
        "marq.observers bill (package bills 1.0, installed) failed; 1 requests dropped so far" in caplog.text
    )
    assert "the ledger is closed" in caplog.text


async def test_what_a_hanging_one_cannot_take_is_dropped_and_counted(observe, caplog):
    entered, held = threading.Event(), threading.Event()

    def act(finished):
        entered.set()
        held.wait()

    observer = Observer(act)
    observing = observe(observer, most=3, pause_s=0)
    gateway = GatewayInProcess([observing])
    await predict(gateway, b"x")
    assert entered.wait(60)
    await predict(gateway, *[b"x"] * 5)  # all of them are answered
    assert observing.dropped == 2
    assert "does not keep up: 1 requests dropped so far" in caplog.text
    held.set()
    observing.end(60)
    assert len(observer.seen) == 4


async def test_a_slow_one_is_logged(observe, caplog, monkeypatch):
    monkeypatch.setattr("gateway.observers.observing.SLOW_S", -1)
    observing = observe(Observer())
    await predict(GatewayInProcess([observing]), b"x")
    with caplog.at_level(logging.ERROR):
        observing.end(60)
    assert re.search(r"is slow: [\d.]+ s for 1 requests", caplog.text)
