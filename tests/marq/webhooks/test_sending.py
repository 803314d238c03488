import asyncio
import re
import socket
import threading
import time

import certificates
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from webhook_receiver import receiving

from marq import keys
from marq.errors import QueueUnavailable
from marq.webhooks import outbox, sending
from marq.webhooks.signing import headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def send(sender):
    """Sends all that is due; returns how many messages that was."""
    count = 0
    while begun := await sender.begin():
        count += begun
        await sender.finish()
    return count


def make_due(client):
    """As if the time had come for all messages."""
    due = keys.webhooks("echo", "due")
    for message in client.zrange(due, 0, -1):
        client.zadd(due, {message: 0})


async def test_the_end_of_a_job_is_sent_once_and_signed(jobs, submit, answer, receiver, make_sender, client):
    # Given a job with a webhook and one without
    job = await submit(receiver.url, tags=("night",))
    await submit(None)
    sender = make_sender(secret=SECRET)
    assert await send(sender) == 0
    # When both end
    answer(2)
    assert await send(sender) == 1
    # Then the receiver has one message, whose signature is good
    (got,) = receiver.received
    ended = (await jobs.get(job)).finished
    assert got.path == "/hook"
    assert got.headers["content-type"] == "application/json"
    assert got.json["type"] == "job.succeeded"
    assert got.json["data"] == {
        "job_id": "echo:0", "model": "echo", "version": "1.0", "state": "succeeded", "status": 200,
        "tags": ["night"],
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", got.json["timestamp"])
    assert ended is not None
    sent_at = int(got.headers["webhook-timestamp"])
    expected = headers(SECRET, got.id, sent_at, got.body)
    assert {name: got.headers[name] for name in expected} == expected
    assert sent_at == pytest.approx(time.time(), abs=600)
    # And nothing is left of it
    assert await send(sender) == 0
    assert list(client.scan_iter("marq:{echo}:webhook*")) == []


async def test_the_signature_is_good_for_the_library_of_standard_webhooks(
    submit, answer, receiver, make_sender, client
):
    await submit(receiver.url)
    answer()
    await send(make_sender())
    (got,) = receiver.received
    secret = client.get(keys.WEBHOOK_SECRET).decode()
    assert Webhook(secret).verify(got.body, got.headers)["type"] == "job.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body, got.headers)


async def test_only_the_states_that_were_asked_for_are_sent(jobs, submit, answer, receiver, make_sender):
    failing = await submit(receiver.url, ("failed", "cancelled"))
    await submit(receiver.url, ("failed",))
    cancelled = await submit(receiver.url, ("cancelled",))
    answer(status=503)
    answer()
    await jobs.cancel(cancelled)
    await send(make_sender())
    got = {each.json["data"]["job_id"]: each.json["data"] for each in receiver.received}
    assert set(got) == {failing, cancelled}
    assert (got[failing]["state"], got[failing]["status"]) == ("failed", 503)
    assert (got[cancelled]["state"], got[cancelled]["status"]) == ("cancelled", None)


async def test_a_message_that_was_not_taken_is_sent_again_with_its_id(submit, answer, make_sender, client):
    with receiving((500, ""), (503, "")) as receiver:
        await submit(receiver.url)
        answer()
        await send(make_sender())
    ids = [each.id for each in receiver.received]
    bodies = {each.body for each in receiver.received}
    assert (len(ids), len(set(ids)), len(bodies)) == (3, 1, 1)
    assert list(client.scan_iter("marq:{echo}:webhook*")) == []


async def test_the_tries_of_a_message_span_a_day(submit, answer, make_sender, client, webhooks):
    with receiving((500, "")) as receiver:
        await submit(receiver.url)
        answer()
        before = client.time()[0]
        assert await send(make_sender(delays_s=sending.DELAYS_S)) == 1
    (kept,) = webhooks.page(None, None, 10)
    assert kept.moment - before > 3
    assert (kept.delivery, kept.message.tries) == ("pending", 1)
    assert 80_000 < sum(sending.DELAYS_S) < 90_000


async def test_a_message_that_is_never_taken_is_kept_as_failed_and_can_be_replayed(
    submit, answer, make_sender, webhooks
):
    with receiving(*[(500, "")] * 3) as receiver:
        job = await submit(receiver.url)
        answer()
        sender = make_sender(delays_s=(0.0, 0.0))
        await send(sender)
        # It has failed, and says why
        (kept,) = webhooks.page("echo", "failed", 10)
        assert (kept.message.job, kept.message.tries) == (job, 3)
        assert kept.message.error == "The receiver answered with status 500."
        assert webhooks.counts(None) == {"pending": 0, "failed": 1}
        # When it is replayed, it has its id
        webhooks.replay(kept.message.id)
        await send(sender)
    assert {each.id for each in receiver.received} == {kept.message.id}
    assert len(receiver.received) == 4
    assert webhooks.counts(None) == {"pending": 0, "failed": 0}


async def test_a_message_of_a_sender_that_was_killed_is_sent_by_another(
    submit, answer, receiver, make_sender, broker, client
):
    await submit(receiver.url)
    answer()
    # Given a sender that has taken the message, and has ended then
    (taken,) = await outbox.Outbox(broker).take(10)
    # Then no other takes it at once
    sender = make_sender()
    assert await send(sender) == 0
    # But it does when the time of a try is over
    make_due(client)
    assert await send(sender) == 1
    assert [each.id for each in receiver.received] == [taken.id]


async def test_a_message_that_was_delivered_before_this_was_noted_is_a_duplicate_with_its_id(
    submit, answer, receiver, make_sender, broker, client, monkeypatch
):
    await submit(receiver.url)
    answer()
    sender = make_sender()

    async def die(self, message):
        raise ConnectionError

    monkeypatch.setattr(outbox.Outbox, "delivered", die)
    assert await send(sender) == 1
    monkeypatch.undo()
    make_due(client)
    assert await send(make_sender()) == 1
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)


async def test_a_late_try_leaves_nothing_of_a_message_that_was_delivered(submit, answer, broker, client):
    # Given a message that two tries have, of which one is about to note that it was delivered
    await submit("http://127.0.0.1:1/")
    answer()
    box = outbox.Outbox(broker)
    [message] = await box.take(10)
    client.delete(keys.webhook("echo", message.id))
    # Then no report of the other one makes it again
    await box.put_off(message, 1.0)
    await box.retry(message, 1.0, "no answer")
    await box.give_up(message, "no answer")
    await box.delivered(message)
    assert list(client.scan_iter("marq:{echo}:webhook*")) == []


async def test_the_second_end_of_a_job_is_another_message(jobs, submit, answer, receiver, make_sender):
    job = await submit(receiver.url)
    answer(status=500)
    sender = make_sender()
    await send(sender)
    await jobs.retry(job)
    answer()
    await send(sender)
    first, second = receiver.received
    assert [first.json["type"], second.json["type"]] == ["job.failed", "job.succeeded"]
    assert first.id != second.id


async def test_addresses_inside_are_not_sent_to_whatever_their_name_is(
    submit, answer, receiver, make_sender, webhooks
):
    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"):
        await submit(f"http://{host}:{receiver.port}/")
    answer(5)
    await send(make_sender(allowed=""))
    failed = webhooks.page(None, "failed", 10)
    assert [each.message.tries for each in failed] == [1] * 5
    assert all(
        "has no address that may be connected to; webhook_allowed_hosts can name it" in each.message.error
        for each in failed
    )
    assert receiver.received == []


async def test_a_host_whose_address_changes_after_the_look_up_is_connected_to_where_it_was(
    submit, answer, receiver, make_sender, monkeypatch, webhooks
):
    # Given a name server that says a public address first, and then one inside
    loop = asyncio.get_running_loop()
    asked = []

    async def getaddrinfo(host, port, **options):
        asked.append(host)
        address = "127.0.0.1" if len(asked) > 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    await submit(f"http://rebinding.example:{receiver.port}/")
    answer()
    await send(make_sender(allowed="127.0.0.2/32", delays_s=()))
    # Then it is looked up once, and the receiver inside has got nothing
    assert asked == ["rebinding.example"]
    assert receiver.received == []
    assert webhooks.counts(None) == {"pending": 0, "failed": 1}


async def test_redirects_are_not_followed(submit, answer, receiver, make_sender, webhooks):
    with receiving((307, receiver.url)) as redirecting:
        await submit(redirecting.url)
        answer()
        await send(make_sender(delays_s=()))
    (kept,) = webhooks.page(None, "failed", 10)
    assert kept.message.error == "The receiver answered with status 307; redirects are not followed."
    assert receiver.received == []


async def test_receivers_have_certificates_of_authorities_that_are_trusted(
    submit, answer, make_sender, webhooks, tmp_path, monkeypatch
):
    pair = certificates.make(tmp_path)
    with receiving(certificate=pair) as receiver:
        # Given an authority that is unknown to the sender
        await submit(receiver.url)
        answer()
        await send(make_sender(delays_s=()))
        (kept,) = webhooks.page(None, "failed", 10)
        assert "CERTIFICATE_VERIFY_FAILED" in kept.message.error
        assert receiver.received == []
        # When it is known
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        webhooks.replay(kept.message.id)
        # Then another sender delivers the message
        await send(make_sender())
        assert [each.id for each in receiver.received] == [kept.message.id]


async def test_a_receiver_that_wants_no_more_is_not_asked_again(submit, answer, make_sender, webhooks):
    with receiving((410, "")) as receiver:
        await submit(receiver.url)
        answer()
        await send(make_sender())
    assert len(receiver.received) == 1
    assert webhooks.counts(None) == {"pending": 0, "failed": 1}


async def test_a_slow_receiver_holds_up_none_of_another(submit, answer, receiver, make_sender, monkeypatch):
    monkeypatch.setattr(sending, "MOST_OF_HOST", 2)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    with receiving() as slow:
        slow.before_answer = lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        for _ in range(6):
            await submit(slow.url)
        await submit(receiver.url)
        answer(7)
        sender = make_sender()
        await sender.begin()
        async with asyncio.timeout(60):
            while not receiver.received:
                await asyncio.sleep(0.01)
        assert len(slow.received) <= 2
        gate.set()
        await sender.finish()


async def test_a_receiver_that_does_not_answer_is_given_up_in_time(
    submit, answer, receiver, make_sender, monkeypatch, webhooks
):
    monkeypatch.setattr(sending, "TRY_S", 0.2)
    gate = threading.Event()
    receiver.before_answer = gate.wait
    await submit(receiver.url)
    answer()
    await send(make_sender(delays_s=()))
    gate.set()
    (kept,) = webhooks.page(None, "failed", 10)
    assert kept.message.error == "The receiver did not answer within 0.2 s."


async def test_a_sender_goes_on_when_redis_is_back(
    submit, answer, receiver, make_sender, monkeypatch, client
):
    # Given a sender whose first looks fail
    sender, looks = make_sender(), []
    take = outbox.Outbox.take

    async def fail_first(self, most):
        looks.append(most)
        if len(looks) < 8:
            raise QueueUnavailable("no connection")
        return await take(self, most)

    monkeypatch.setattr(outbox.Outbox, "take", fail_first)
    monkeypatch.setattr(sending, "PAUSE_S", 0.01)
    await submit(receiver.url)
    answer()
    # When it follows, then it delivers in the end
    following = asyncio.create_task(sender.follow())
    async with asyncio.timeout(60):
        while client.zcard(keys.webhooks("echo", "due")):
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert len(receiver.received) == 1


async def test_a_url_that_a_producer_wrote_into_redis_is_checked_as_well(
    submit, answer, make_sender, client, webhooks
):
    await submit("http://example.org/")
    client.hset(keys.job("echo", "0"), "webhook", "http://example.org/\r\nX-Evil: 1")
    answer()
    await send(make_sender())
    (kept,) = webhooks.page(None, "failed", 10)
    assert kept.message.error.startswith("webhook must be a URL")
