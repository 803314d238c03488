import asyncio
import threading
import time

import pytest
from ports import free_port
from thread_replica import make_spec

import marq
from marq import keys
from marq.client import (
    AsyncClient,
    Client,
    JobCancelled,
    JobExpired,
    JobFailed,
    PredictionFailed,
    Result,
    encode,
)
from marq.connections.blocking import Connection
from marq.errors import (
    IdempotencyConflict,
    JobNotFound,
    ModelNotFound,
    ModelVersionNotFound,
    RedisUnavailable,
)
from marq.host import server_file
from marq.queue.entries import decode
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply


@pytest.fixture
def sync(redis_url, spec):
    with Client(redis_url) as client:
        yield client


@pytest.fixture
async def asynchronous(redis_url, spec):
    async with AsyncClient(redis_url) as client:
        yield client


def failing(request):
    return Reply(request.id, 503, b'{"code": 503}', b'{"x-why": "test"}')


@pytest.mark.parametrize(
    ("data", "body", "kind"),
    [
        (b"\x00\xff", b"\x00\xff", b""),
        (bytearray(b"b"), b"b", b""),
        (memoryview(b"b"), b"b", b""),
        ("größe", "größe".encode(), b"text/plain"),
        ({"a": [1, None]}, b'{"a": [1, null]}', b"application/json"),
        ([1.5], b"[1.5]", b"application/json"),
        (None, b"null", b"application/json"),
    ],
)
def test_data_are_sent_as_what_they_are(data, body, kind):
    fields = encode(data)
    assert (fields.head.type, fields.body) == (kind, body)


def test_a_content_type_may_be_given():
    assert encode(b"x", "image/png").head.type == b"image/png"
    assert encode({}, "").head.type == b""


def test_what_is_no_json_cannot_be_sent(sync):
    with pytest.raises(TypeError):
        sync.predict("echo", object())


def test_results_can_be_read_in_three_ways():
    result = Result(200, '[1, "ü"]'.encode())
    assert (result.json(), result.text) == ([1, "ü"], '[1, "ü"]')
    assert result.check() is result


def test_an_error_status_raises_with_the_whole_answer():
    with pytest.raises(PredictionFailed, match="status 404: no such thing") as caught:
        Result(404, b"no such thing", {"a": "b"}).check()
    assert caught.value.result == Result(404, b"no such thing", {"a": "b"})


def test_the_package_offers_the_clients():
    assert (marq.Client, marq.AsyncClient) == (Client, AsyncClient)
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = marq.Nope


# without an event loop


def test_a_prediction_is_answered(sync, start_replica):
    start_replica()
    result = sync.predict("echo", {"a": 1})
    assert (result.status, result.json()) == (200, {"a": 1})
    assert result.headers == {"content-type": "application/json"}
    assert sync.predict("echo", b"png", content_type="image/png").headers == {"content-type": "image/png"}


def test_a_version_may_be_named(sync, start_replica, registry):
    second = make_spec(version="2.0")
    registry.register(second)
    start_replica(lambda request: Reply(request.id, 200, b"first"))
    start_replica(lambda request: Reply(request.id, 200, b"second"), second)
    assert sync.predict("echo", b"").body == b"first"
    assert sync.predict("echo", b"", version="2.0").body == b"second"
    assert sync.submit("echo", b"", version="2.0").result(60).body == b"second"


def test_a_failed_prediction_raises_with_its_answer(sync, start_replica):
    start_replica(failing)
    with pytest.raises(PredictionFailed, match="status 503") as caught:
        sync.predict("echo", b"")
    assert caught.value.result == Result(503, b'{"code": 503}', {"x-why": "test"})


def test_a_prediction_that_is_late_raises(sync):
    with pytest.raises(TimeoutError, match=r"model echo has not answered within 0\.05 s"):
        sync.predict("echo", b"", timeout=0.05)


def test_unknown_models_and_versions_raise_until_they_are_there(sync, registry, start_replica):
    with pytest.raises(ModelNotFound, match="Model not found: other"):
        sync.predict("other", b"")
    with pytest.raises(ModelVersionNotFound):
        sync.submit("echo", b"", version="9")
    other = make_spec("other")
    registry.register(other)
    start_replica(spec=other)
    assert sync.predict("other", b"x").body == b"x"


def test_a_job_can_be_submitted_watched_and_fetched(sync, start_replica):
    job = sync.submit("echo", "hello")
    assert str(job) == job.id
    assert job.id.startswith("echo:")
    assert job.status() == sync.status(job.id)
    assert job.status().state == "queued"
    start_replica()
    assert job.result(timeout=60).text == "hello"
    assert sync.result(job, timeout=60) == sync.result(str(job), timeout=60) == job.result(60)
    assert job.status().state == "succeeded"


def test_many_jobs_come_back_in_order(sync, start_replica):
    start_replica()
    jobs = sync.submit_many("echo", ({"row": number} for number in range(50)))
    assert [job.result(60).json()["row"] for job in jobs] == list(range(50))
    assert len({job.id for job in jobs}) == 50


def test_a_job_that_is_not_done_in_time_raises_and_says_how_far_it_is(sync):
    job = sync.submit("echo", b"")
    with pytest.raises(TimeoutError, match=f"job {job.id} is still queued after 0.05 s"):
        job.result(timeout=0.05)


def test_a_failed_job_raises_with_its_answer(sync, start_replica):
    start_replica(failing)
    with pytest.raises(JobFailed, match="status 503") as caught:
        sync.submit("echo", b"").result(60)
    assert isinstance(caught.value, PredictionFailed)
    assert caught.value.result.headers == {"x-why": "test"}


def test_an_unknown_job_raises(sync):
    with pytest.raises(JobNotFound):
        sync.status("echo:nope")
    with pytest.raises(JobNotFound):
        sync.result("nonsense", timeout=60)


def test_several_threads_may_use_one_client(sync, start_replica):
    start_replica()
    answers: dict[int, bytes] = {}

    def use(number: int) -> None:
        answers[number] = sync.predict("echo", b"%d" % number).body

    threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: b"%d" % number for number in range(16)}


def test_a_closed_client_leaves_no_thread_and_no_stream(redis_url, client):
    with Client(redis_url):
        assert [thread for thread in threading.enumerate() if thread.name == "marq-client"]
        assert client.keys("marq:replies:*")
    assert not [thread for thread in threading.enumerate() if thread.name == "marq-client"]
    assert not client.keys("marq:replies:*")


def test_a_client_that_finds_no_redis_leaves_no_thread():
    with pytest.raises(RedisUnavailable):
        Client(f"redis://127.0.0.1:{free_port()}")
    assert not [thread for thread in threading.enumerate() if thread.name == "marq-client"]


def test_without_an_address_a_client_looks_for_one(redis_url, monkeypatch, tmp_path):
    monkeypatch.setenv("MARQ_REDIS_URL", redis_url)
    Client().close()
    monkeypatch.delenv("MARQ_REDIS_URL")
    monkeypatch.setenv("MARQ_STATE_DIR", str(tmp_path))
    with pytest.raises(server_file.ServerNotFound):
        Client()


def test_a_job_with_a_key_is_queued_once(sync, client):
    first, second = (sync.submit("echo", b"x", key="order 7") for _ in range(2))
    assert first.id == second.id
    assert client.xlen(keys.lane("echo", "1.0")) == 1
    with pytest.raises(IdempotencyConflict):
        sync.submit("echo", b"another body", key="order 7")


def test_replicas_read_in_each_entry_until_when_a_job_may_start(sync, client):
    before_ms = 1000 * time.time()
    sync.submit("echo", b"x", start_within=30)
    sync.submit_many("echo", [b"x", b"x"], start_within=30)
    sync.submit("echo", b"x")
    *limited, unlimited = [fields for _, fields in client.xrange(keys.lane("echo", "1.0"))]
    assert len(limited) == 3
    for fields in limited:
        assert before_ms + 29_000 < int(fields[b"deadline"]) < 1000 * time.time() + 31_000
    assert b"deadline" not in unlimited


@pytest.mark.parametrize("seconds", [0, -1, 1e9])
def test_a_start_in_the_past_or_after_a_year_is_refused(sync, seconds):
    with pytest.raises(ValueError, match="start_within must be above 0"):
        sync.submit("echo", b"x", start_within=seconds)


def test_a_job_can_be_cancelled_until_it_has_finished(sync, start_replica):
    cancelled, job = sync.submit("echo", b"x"), sync.submit("echo", b"x")
    assert sync.cancel(cancelled)
    assert cancelled.status().state == "cancelled"
    start_replica()
    job.result(60)
    assert not sync.cancel(job)
    with pytest.raises(JobNotFound):
        sync.cancel("echo:nope")


def test_the_result_of_a_cancelled_job_raises(sync):
    job = sync.submit("echo", b"x")
    assert job.cancel()
    with pytest.raises(JobCancelled, match=f"Job {job.id} was cancelled; it has no result"):
        job.result(60)


def test_the_result_of_an_expired_job_raises(sync, redis_url, spec):
    # Given a job that a replica takes too late
    job, lane = sync.submit("echo", b"x", start_within=0.001), keys.lane("echo", "1.0")
    replica = Connection(redis_url)
    [[_, [entry]]] = replica.execute("XREADGROUP", "GROUP", keys.GROUP, "test", "STREAMS", lane, ">")
    replica.pipeline(Publisher(spec, "cpu").expire([decode(lane, *entry)]))
    replica.close()
    # When the client asks for its result
    with pytest.raises(JobExpired, match="status 504"):
        job.result(60)


def test_a_job_of_an_earlier_process_is_found_by_its_id(sync, start_replica):
    job = sync.job(sync.submit("echo", b"x").id)
    assert repr(job) == f"Job('{job.id}')"
    assert not job.done()
    start_replica()
    assert job.result(60).body == b"x"
    assert job.done()
    assert not job.cancel()
    with pytest.raises(JobNotFound):
        sync.job("nonsense")


# in an event loop


async def test_predictions_of_one_loop_run_together(asynchronous, start_replica):
    start_replica()
    results = await asyncio.gather(*(asynchronous.predict("echo", b"%d" % number) for number in range(100)))
    assert [result.body for result in results] == [b"%d" % number for number in range(100)]


async def test_an_awaited_job_gives_its_result(asynchronous, start_replica):
    start_replica()
    job = await asynchronous.submit("echo", {"a": 1})
    assert (await job.result(60)).json() == {"a": 1}
    assert (await job.status()).state == "succeeded"
    assert (await asynchronous.status(str(job))).id == job.id
    assert (await asynchronous.result(job, 5)).status == 200


async def test_an_awaited_job_can_be_found_looked_at_and_cancelled(asynchronous):
    job = asynchronous.job((await asynchronous.submit("echo", b"x")).id)
    assert repr(job) == f"AsyncJob('{job.id}')"
    assert not await job.done()
    assert await job.cancel()
    assert await job.done()
    with pytest.raises(JobCancelled):
        await job.result(60)


async def test_many_awaited_jobs_come_back_in_order(asynchronous, start_replica):
    start_replica()
    jobs = await asynchronous.submit_many("echo", [b"a", b"b", b"c"])
    assert [(await job.result(60)).body for job in jobs] == [b"a", b"b", b"c"]


async def test_a_prediction_that_is_late_is_forgotten(asynchronous):
    with pytest.raises(TimeoutError):
        await asynchronous.predict("echo", b"", timeout=0.05)
    assert asynchronous._broker.in_flight == 0


async def test_an_error_is_raised_where_it_is_awaited(asynchronous, start_replica):
    start_replica(failing)
    with pytest.raises(PredictionFailed):
        await asynchronous.predict("echo", b"")
    with pytest.raises(ModelNotFound):
        await asynchronous.predict("nope", b"")
    with pytest.raises(JobNotFound):
        await asynchronous.status("echo:nope")
