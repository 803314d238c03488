"""Tasks over a real RabbitMQ: `apt-get install rabbitmq-server` has it."""

from collections.abc import Iterator

import handlers
import pytest
import rabbitmq
from celery_service import CeleryService, TaskError, celery_service
from support import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(rabbitmq.SERVER is None, reason="RabbitMQ is not installed"),
]


@pytest.fixture(scope="module")
def service(start_server, make_archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryService]:
    """A service whose results are in marq's Redis."""
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO, {"batchSize": 8, "minWorkers": 1, "maxWorkers": 1})
    with rabbitmq.rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        server = start_server(store, celery_bridge=True, celery_broker=broker, gateway_workers=1)
        server.wait_until_ready("echo")
        with celery_service(broker, server.marq("redis-url").stdout.strip()) as running:
            wait_for(lambda: running.run("return app.control.ping(timeout=1)"), what="the bridge")
            yield running
        server.stop()  # before its broker ends


def test_tasks_groups_chains_and_chords(service: CeleryService) -> None:
    assert service.run('return predict("echo", {"a": 1}).delay().get(timeout=60)') == {"a": 1}
    many = 'return group(predict("echo", [n]) for n in range(1200)).apply_async().get(timeout=120)'
    assert service.run(many) == [[n] for n in range(1200)]
    code = """
        header = [predict("echo", n) for n in range(5)]
        steps = chain(chord(header, predict(model="echo")), predict(model="echo"))
        return steps.apply_async().get(timeout=60)
    """
    assert service.run(code) == list(range(5))


def test_a_revoked_task_and_junk(service: CeleryService) -> None:
    code = """
        app.control.revoke("later", reply=True, timeout=60, limit=1)
        with app.connection_for_write() as connection:
            connection.Producer().publish(b"\\xff", routing_key="marq", content_type="application/x-junk")
        return predict("echo", 1).apply_async(task_id="later").get(timeout=60)
    """
    with pytest.raises(TaskError, match="TaskRevokedError: revoked"):
        service.run(code)
    with pytest.raises(TaskError, match="ContentDisallowed"):
        service.run('return predict("echo", 1).set(serializer="pickle").delay().get(timeout=60)')
