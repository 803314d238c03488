"""Services that have Celery and nothing of marq: their tasks mean what they mean to Celery's users."""

import base64
import json
import time
from collections.abc import Iterator

import handlers
import pytest
import redis
from celery_service import CeleryService, TaskError, celery_service
from gate import Gate
from support import RunningServer, bridge_of, wait_for

from marq import keys


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    one = {"minWorkers": 1, "maxWorkers": 1}
    make_archive(store, "echo", handlers.ECHO, {"batchSize": 8, **one})
    make_archive(store, "slow", handlers.SLOW, one)
    make_archive(store, "stream", handlers.STREAM, one)
    make_archive(store, "fresh", handlers.SLOW, one)  # a replica takes no rows ahead before it has run some
    running: RunningServer = start_server(store, celery_bridge=True, gateway_workers=1)
    for model in ("echo", "slow", "stream", "fresh"):
        running.wait_until_ready(model)
    return running


@pytest.fixture(scope="module")
def url(server: RunningServer) -> str:
    return server.marq("redis-url").stdout.strip()


@pytest.fixture(scope="module")
def service(url: str) -> Iterator[CeleryService]:
    with celery_service(url, url) as running:
        wait_for(lambda: running.run("return app.control.ping(timeout=0.5)"), what="the bridge")
        yield running


@pytest.fixture
def client(url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(url) as connection:
        yield connection


def test_a_service_with_celery_alone_gets_answers(service: CeleryService) -> None:
    sent = 'return app.send_task("marq.predict", args=["echo", {"a": [1, None, "ü"]}]).get(timeout=60)'
    assert service.run(sent) == {"a": [1, None, "ü"]}
    assert service.run('return predict("echo", "a text", version="1.0").delay().get(timeout=60)') == "a text"
    assert service.run('return predict(model="echo", body=[7]).delay().get(timeout=60)') == [7]


def test_bytes_stay_bytes(service: CeleryService) -> None:
    assert service.run(r'return predict("echo", b"\xff\x00").delay().get(timeout=60).hex()') == "ff00"
    assert (
        service.run('return predict("echo", b"12", returns="bytes").delay().get(timeout=60).hex()') == "3132"
    )


def test_the_form_of_the_answer_can_be_chosen(service: CeleryService) -> None:
    assert service.run('return predict("echo", "12").delay().get(timeout=60)') == 12
    assert service.run('return predict("echo", "12", returns="text").delay().get(timeout=60)') == "12"
    with pytest.raises(TaskError, match="PredictionFailed: 200: the answer is not json"):
        service.run('return predict("echo", "no", returns="json").delay().get(timeout=60)')


def test_a_streamed_answer_comes_as_a_whole(service: CeleryService) -> None:
    answer = service.run('return predict("stream", "2 end").delay().get(timeout=60)')
    assert answer == "0.0 0.1 0.end"


def test_a_group_has_its_results_in_order(service: CeleryService) -> None:
    code = 'return group(predict("echo", [n]) for n in range(200)).apply_async().get(timeout=60)'
    assert service.run(code) == [[n] for n in range(200)]


def test_a_chain_passes_results_on(service: CeleryService) -> None:
    code = """
        result = chain(predict("echo", {"n": 1}), predict(model="echo"), predict(model="echo")).apply_async()
        return result.get(timeout=60), result.parent.get(timeout=60), result.parent.parent.get(timeout=60)
    """
    assert service.run(code) == [{"n": 1}] * 3


def test_a_chord_runs_its_body_with_all_results(service: CeleryService) -> None:
    code = """
        header = [predict("echo", n) for n in range(20)]
        return chord(header, predict(model="echo")).apply_async().get(timeout=60)
    """
    assert service.run(code) == list(range(20))
    nested = """
        step = group(predict(model="echo"), predict(model="echo"))
        return chain(predict("echo", 5), step, predict(model="echo")).apply_async().get(timeout=60)
    """
    assert service.run(nested) == [5, 5]


def test_a_task_that_fails_fails_what_follows(service: CeleryService) -> None:
    code = """
        first = predict("echo", {"status": 418})
        return chain(first, predict(model="echo")).apply_async().get(timeout=60)
    """
    with pytest.raises(TaskError, match="PredictionFailed: 418: short and stout"):
        service.run(code)
    code = """
        header = [predict("echo", {"status": 418}), predict("echo", 1)]
        error = chord(header, predict(model="echo")).apply_async().get(timeout=60, propagate=False)
        return type(error).__name__, str(error)
    """
    kind, text = service.run(code)
    assert (kind, "418: short and stout" in text) == ("ChordError", True)


def test_callbacks_of_both_kinds_are_called(service: CeleryService) -> None:
    code = """
        follower = predict(model="echo").set(task_id=celery.utils.uuid())
        result = predict("echo", body).apply_async(**{option: follower})
        result.get(timeout=60, propagate=False)
        return follower.freeze().get(timeout=60), result.id, len(result.children or ())
    """
    assert service.run(code, body=[1], option="link")[0::2] == [[1], 1]
    failed, failed_id, _ = service.run(code, body="fail", option="link_error")
    assert failed == failed_id


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ('predict("echo", "fail")', "PredictionFailed: 503: "),
        ('predict("nobody", 1)', "ModelNotFound: Model not found: nobody"),
        ('predict("echo", 1, version="9")', "ModelVersionNotFound: "),
        ('predict("echo", 1, verison="1.0")', "TypeError: marq.predict has no argument 'verison'"),
        ('predict("echo")', "TypeError: marq.predict takes a model and a body"),
        ("predict(1, 2)", "TypeError: model must be a text, not int"),
        ('predict("echo", 1, retries=-1)', "BadRequest: retries must be"),
        ('app.signature("marq.nothing")', r"NotRegistered: .*marq.nothing"),
        ('predict("echo", 1).set(serializer="pickle")', "ContentDisallowed: Tasks of marq are JSON"),
        ('predict("echo", 1).set(serializer="yaml")', "ContentDisallowed: Tasks of marq are JSON"),
    ],
)  # fmt: skip
def test_what_cannot_run_raises_the_reason(service: CeleryService, sent: str, error: str) -> None:
    with pytest.raises(TaskError, match=error):
        service.run(f"return {sent}.delay().get(timeout=60)")


def test_a_countdown_delays_the_start(service: CeleryService, client: "redis.Redis[bytes]") -> None:
    before = time.time()
    task = service.run("return predict('echo', 1).apply_async(countdown=2).id")
    assert service.run("return app.AsyncResult(task).get(timeout=60)", task=task) == 1
    assert int(client.hget(keys.job("echo", task), "started") or 0) / 1000 >= before + 2


def test_a_task_that_has_not_started_in_time_expires(service: CeleryService, gate: Gate) -> None:
    busy = service.run("return predict('slow', f'hold {gate}'.encode()).delay().id", gate=str(gate))
    gate.wait_until_reached()
    ended = time.time() + 1
    late = service.run("return predict('slow', b'x').apply_async(expires=1).id")
    wait_for(lambda: time.time() > ended + 0.1)
    gate.open()
    assert service.run("return app.AsyncResult(task).get(timeout=60)", task=busy) == "done"
    with pytest.raises(TaskError, match="TaskRevokedError: expired"):
        service.run("return app.AsyncResult(task).get(timeout=60)", task=late)


def test_a_revoked_task_does_not_run(service: CeleryService, gate: Gate) -> None:
    busy = service.run("return predict('fresh', f'hold {gate}'.encode()).delay().id", gate=str(gate))
    gate.wait_until_reached()
    waiting = service.run("return predict('fresh', f'hold {gate}'.encode()).delay().id", gate=str(gate))
    # When one is revoked while it waits, one before it is sent, and one while it runs
    code = """
        app.control.revoke([busy, waiting], reply=True, timeout=60, limit=1)
        app.control.revoke("later", reply=True, timeout=60, limit=1)
    """
    service.run(code, busy=busy, waiting=waiting)
    later = service.run("return predict('echo', 1).apply_async(task_id='later').id")
    for task in (waiting, later):
        with pytest.raises(TaskError, match="TaskRevokedError: revoked"):
            service.run("return app.AsyncResult(task).get(timeout=60)", task=task)
    gate.open()
    assert service.run("return app.AsyncResult(task).get(timeout=60)", task=busy) == "done"
    assert gate.reached() == 1


def test_the_result_of_a_terminated_task_is_dropped(service: CeleryService, gate: Gate) -> None:
    busy = service.run("return predict('slow', f'hold {gate}'.encode()).delay().id", gate=str(gate))
    gate.wait_until_reached()
    service.run("app.control.revoke(busy, terminate=True, reply=True, timeout=60, limit=1)", busy=busy)
    with pytest.raises(TaskError, match="TaskRevokedError: revoked"):
        service.run("return app.AsyncResult(task).get(timeout=60)", task=busy)


def test_priorities_are_lanes(service: CeleryService, client: "redis.Redis[bytes]") -> None:
    for options, kwargs, lane in (
        ("", "", b"normal"),
        ("priority=9", "", b"low"),
        ("", ", priority='high'", b"high"),
    ):
        task = service.run(
            f"r = predict('echo', 1{kwargs}).apply_async({options}); r.get(timeout=60); return r.id"
        )
        assert client.hget(keys.job("echo", task), "priority") == lane


def test_a_message_that_comes_twice_runs_once(
    service: CeleryService, client: "redis.Redis[bytes]", gate: Gate
) -> None:
    gate.open()
    task = service.run(
        "return predict('slow', f'hold {gate}'.encode()).apply_async(queue='aside').id", gate=str(gate)
    )
    message = client.rpop("aside")
    for _ in range(2):
        client.lpush("marq", *[message] * 2)
        assert service.run("return app.AsyncResult(task).get(timeout=60)", task=task) == "done"
        wait_for(lambda: not client.exists("marq", keys.bridge("marq", "taken")), what="the messages")
    wait_for(lambda: not client.hexists(keys.bridge("marq", "waiting"), task), what="the end of the task")
    assert gate.reached() == 1


def test_messages_that_are_no_tasks_stop_nothing(
    service: CeleryService, client: "redis.Redis[bytes]", server: RunningServer
) -> None:
    logged = server.state_dir / "logs" / "ts_log.log"
    before = logged.read_text().count("a message is dropped")
    junk = [b"\x00\xff", b"{}", b"[]", b'{"body": 1, "headers": [], "properties": {}, "content-type": ""}']
    client.lpush("marq", *junk)
    deep = service.run("return predict('echo', 1, tags='DEEP').apply_async(queue='aside').id")
    message = json.loads(client.rpop("aside") or b"")
    body = base64.b64decode(message["body"]).replace(b'"DEEP"', b"[" * 900 + b"]" * 900)
    message["body"] = base64.b64encode(body).decode()
    client.lpush("marq", json.dumps(message))
    with pytest.raises(TaskError, match=r"BadRequest|TypeError|RecursionError|DecodeError"):
        service.run("return app.AsyncResult(task).get(timeout=60)", task=deep)
    assert service.run("return predict('echo', 1).delay().get(timeout=60)") == 1
    assert logged.read_text().count("a message is dropped") == before + len(junk)


def test_a_task_whose_result_is_ignored_leaves_none(
    service: CeleryService, client: "redis.Redis[bytes]"
) -> None:
    task = service.run("return predict('echo', 1).apply_async(ignore_result=True).id")
    wait_for(lambda: client.hget(keys.job("echo", task), "celery"), what="the end of the task")
    assert not client.exists(f"celery-task-meta-{task}")


def test_a_killed_bridge_finds_what_it_has_missed(
    service: CeleryService, server: RunningServer, gate: Gate
) -> None:
    busy = service.run("return predict('slow', f'hold {gate}'.encode()).delay().id", gate=str(gate))
    gate.wait_until_reached()
    # When the bridge is killed while the task runs, and another is sent before its successor is up
    killed = bridge_of(server)
    killed.kill()
    later = service.run("return predict('echo', 1).delay().id")
    gate.open()
    # Then both have their results
    assert service.run("return app.AsyncResult(task).get(timeout=60)", task=busy) == "done"
    assert service.run("return app.AsyncResult(task).get(timeout=60)", task=later) == 1
    assert (gate.reached(), bridge_of(server) == killed) == (1, False)
