"""A bridge that is killed at any moment loses no task, and runs none twice."""

import time
from pathlib import Path

import pytest
import redis
from celery_service import celery_service
from support import RunningServer, bridge_of, wait_for

from marq import keys

pytestmark = pytest.mark.slow
KILLS = 12
HANDLER = '''
def handle(data, context):  # noqa: ARG001
    """Writes down each row that it runs."""
    if data is None:
        return None
    with open({path!r}, "a") as runs:
        runs.write("".join(f"{{row['body']}}\\n" for row in data))
    return [row["body"] for row in data]
'''


def test_a_bridge_that_is_killed_again_and_again_loses_and_doubles_nothing(
    start_server, make_archive, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    handler = HANDLER.format(path=str(runs))
    make_archive(tmp_path / "store", "noted", handler, {"batchSize": 8, "minWorkers": 1, "maxWorkers": 1})
    server: RunningServer = start_server(tmp_path / "store", celery_bridge=True, gateway_workers=1)
    server.wait_until_ready("noted")
    url = server.marq("redis-url").stdout.strip()
    with celery_service(url, url) as service:
        # Given tasks and chains that are sent all the time
        service.run("app.sent = []")
        for number in range(KILLS):
            code = """
                for n in range(first, first + 100):
                    body = f"c{n}"
                    steps = chain(predict("noted", body), predict(model="noted"))
                    app.sent.append((steps if n % 10 == 0 else predict("noted", f"t{n}")).apply_async())
            """
            service.run(code, first=100 * number)
            # When the bridge is killed, each time at another moment of its work
            bridge = bridge_of(server)
            time.sleep(0.03 * number)
            bridge.kill()
        # Then each task has its result, and the handler has run each step once
        results = service.run("return [result.get(timeout=120) for result in app.sent]")
    numbers = range(100 * KILLS)
    assert results == [f"c{n}" if n % 10 == 0 else f"t{n}" for n in numbers]
    ran = runs.read_text().split()
    assert sorted(ran) == sorted(
        each for n in numbers for each in ([f"c{n}"] * 2 if n % 10 == 0 else [f"t{n}"])
    )
    with redis.Redis.from_url(url) as client:
        left = [keys.bridge("marq", name) for name in ("waiting", "taken")]
        wait_for(lambda: not client.exists(*left, "marq"), what="the end of all tasks")
