"""The node's loop: when it compares, and when it ends."""

import threading

import redis
from support import wait_for

from marq.settings import loading
from workers.node import reconciler
from workers.node.reconciler import Node


def test_a_stop_ends_the_wait_for_a_change(redis_url, tmp_path, monkeypatch):
    monkeypatch.setattr(reconciler, "HEARTBEAT_S", 3600.0)
    node = Node(loading.load(redis_url=redis_url, state_dir=tmp_path / "state", number_of_gpu=0), "host")
    loop = threading.Thread(target=node.run, daemon=True)
    loop.start()
    with redis.Redis.from_url(redis_url) as client:
        wait_for(lambda: client.info("clients")["blocked_clients"], what="the wait")
    node.stop_soon()
    loop.join(60)
    assert not loop.is_alive()
