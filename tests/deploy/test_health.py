"""The health check of containers, as Docker runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marq import keys
from marq.connections import clients
from marq.registry.models import HEARTBEAT_LIMIT_S, Registry

SCRIPT = Path(__file__).parents[2] / "deploy/health.py"


@pytest.fixture
def check(redis_url, tmp_path):
    """The exit code and the message for a container of the node `a`."""

    def check(url: str = redis_url) -> tuple[int, str]:
        variables = {"MARQ_REDIS_URL": url, "MARQ_NODE": "a", "MARQ_STATE_DIR": str(tmp_path)}
        environment = {**os.environ, **variables}
        done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout + done.stderr

    return check


@pytest.mark.parametrize(
    ("age_s", "code", "message"),
    [(0.0, 0, "node a reported "), (HEARTBEAT_LIMIT_S + 50, 1, "MarqError: node a has not reported for ")],
)
def test_a_node_is_healthy_while_it_reports(check, redis_url, age_s, code, message):
    with clients.client(redis_url) as client:
        client.zadd(keys.NODES, {"a": Registry(client).now() - age_s})
    found, text = check()
    assert found == code
    assert text.startswith(message)


def test_a_node_that_has_never_reported_is_not_healthy(check):
    assert check()[0] == 1


def test_without_redis_a_node_is_not_healthy(check):
    code, text = check("redis://127.0.0.1:1/0")
    assert code == 1
    assert "ConnectionError" in text


def test_a_gateway_that_does_not_run_is_not_healthy(check, tmp_path):
    (tmp_path / "server.json").write_text("{}")
    code, text = check()
    assert code == 1
    assert text.startswith("ServerNotFound")
