import os

import pytest
import redis
from thread_replica import make_spec

from marq.host import server_file
from marq.host.node_name import NodeLease
from marq.registry.models import Registry


@pytest.fixture
def environments(monkeypatch):
    """The environment of each node that this process would have become."""
    seen, before = [], os.environ.copy()  # the mapping itself stays: modules keep it as a default
    monkeypatch.setattr(os, "execv", lambda *_: seen.append(dict(os.environ)))
    yield seen
    os.environ.clear()
    os.environ.update(before)


def test_a_node_gets_its_options_as_settings(run, environments, redis_url, tmp_path):
    result = run(
        "node", "--redis-url", redis_url, "--name", "gpu-2", "--number-of-gpu", 0, "--state-dir", tmp_path
    )
    assert result.exit_code == 0
    (environment,) = environments
    assert environment["MARQ_REDIS_URL"] == redis_url
    assert (environment["MARQ_NODE"], environment["MARQ_NUMBER_OF_GPU"]) == ("gpu-2", "0")
    assert environment["MARQ_STATE_DIR"] == str(tmp_path)


def test_a_node_says_what_it_joins(run, environments, redis_url, state_dir):
    result = run("node", "--redis-url", redis_url, "--name", "gpu-2")
    assert "Node            gpu-2" in result.stdout
    assert f"Logs            {state_dir}/logs" in result.stdout
    assert "Models          none is registered in this database yet" in result.stdout
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        Registry(client).register(make_spec("digits"))
    assert "Models          digits 1.0" in run("node", "--redis-url", redis_url).stdout
    assert server_file.find_node(state_dir).redis_url == redis_url


def test_a_second_node_does_not_take_the_place_of_the_first(run, environments, redis_url, state_dir):
    # Given a node, and what it has noted
    run("node", "--redis-url", redis_url, "--name", "gpu-2")
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        lease = NodeLease(client, "gpu-2", state_dir)
        lease.hold()
        noted = server_file.find_node(state_dir)
        # When another one is started with the same name and state directory
        refused = run("node", "--redis-url", redis_url, "--name", "gpu-2")
        lease.close()
    # Then it says so in one line, and `marq stop` still finds the first
    assert refused.exit_code == 1
    assert refused.stderr.startswith('Error: A node named "gpu-2" runs already')
    assert (server_file.find_node(state_dir), len(environments)) == (noted, 1)


def test_a_node_tells_at_once_that_redis_cannot_be_reached(run, environments):
    result = run("node", "--redis-url", "redis://:hidden@127.0.0.1:1/0")
    assert (result.exit_code, environments) == (1, [])
    assert result.stderr.startswith("Error: Redis at redis://:***@127.0.0.1:1/0 cannot be used")
