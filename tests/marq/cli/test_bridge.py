import os

import pytest


@pytest.fixture
def environments(monkeypatch):
    """The environment of each bridge that this process would have become."""
    seen = []
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(os, "execv", lambda *_: seen.append(dict(os.environ)))
    return seen


def test_a_bridge_gets_its_options_as_settings(run, environments, redis_url, tmp_path):
    result = run(
        *("bridge", "--redis-url", redis_url, "--broker", "amqp://rabbit//", "--result-backend", "rpc://"),
        *("--queue", "mine", "--key-prefix", "shop:", "--state-dir", tmp_path),
    )
    assert result.exit_code == 0
    (environment,) = environments
    names = ("REDIS_URL", "CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_QUEUE", "CELERY_KEY_PREFIX")
    given = [environment[f"MARQ_{name}"] for name in names]
    assert given == [redis_url, "amqp://rabbit//", "rpc://", "mine", "shop:"]


def test_a_bridge_says_at_once_that_redis_cannot_be_reached(run, environments):
    result = run("bridge", "--redis-url", "redis://:hidden@127.0.0.1:1/0")
    assert (result.exit_code, environments) == (1, [])
    assert result.stderr.startswith("Error: Redis at redis://:***@127.0.0.1:1/0 cannot be used")
