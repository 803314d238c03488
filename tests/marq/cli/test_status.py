import json
import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest
import redis
from support import MARQ

from marq import keys
from marq.cli import status_tables
from marq.cli.commands.server.status import summarize
from marq.host import server_file
from marq.metrics.catalog import BATCH_SIZE
from marq.metrics.measurements import Measurements
from marq.registry import token_store
from marq.registry.models import Registry
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.sizes.decisions import Decision
from marq.registry.sizes.hosts import Device, Host
from marq.registry.snapshot import Models, Snapshot
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

SPEC = ModelSpec(name="m", version="1.0", url="m.mar", archive="m.mar", handler="h", min_workers=2)
REPLICA = ReplicaReport(0, 1, "cuda:0", "ready", started=0.0, requests=30, batches=10)


def report(failures=0, reason=""):
    return PoolReport("here", 0, failures=failures, reason=reason, reported=time.time())


def snapshot(spec, replicas, reports, decisions=None):
    """The registry with one version, whose first report has the replicas."""
    first, *others = reports or ([PoolReport("here", 0)] if replicas else [None])
    there = [replace(first, replicas=tuple(replicas)), *others] if first else []
    models = Models({spec.name: {spec.version: spec}}, {}, decisions=decisions or {})
    return Snapshot(models, {spec.key: there}, 0.0)


@pytest.mark.parametrize(
    ("wanted", "replicas", "reported", "state"),
    [
        (2, [REPLICA, REPLICA], {}, "ready"),
        (2, [REPLICA, replace(REPLICA, state="loading")], {}, "loading"),
        (2, [], None, "loading"),
        (0, [], None, "stopped"),
        (2, [], {"failures": 3, "reason": "ended\nKeyError: 'x'\n\n"}, "failing"),
        (2, [REPLICA, REPLICA], {"failures": 1, "reason": "over"}, "ready"),
    ],
)
def test_the_state_follows_from_what_pools_report(wanted, replicas, reported, state):
    reports = [] if reported is None else [report(**reported)]
    spec = replace(SPEC, min_workers=wanted)
    found = summarize(spec, True, snapshot(spec, replicas, reports), 0)
    assert found.state == state
    assert found.reason == ("KeyError: 'x'" if state == "failing" else "")


def test_requests_batches_and_devices_are_summed_over_replicas():
    other = replace(REPLICA, device="cuda:1", requests=10)
    found = summarize(SPEC, False, snapshot(SPEC, [REPLICA, other], [report()]), 5)
    assert (found.requests, found.mean_batch_size, found.waiting) == (40, 2.0, 5)
    assert found.devices == ["cuda:0", "cuda:1"]
    assert summarize(SPEC, False, snapshot(SPEC, [], []), 0).mean_batch_size is None


def test_continuous_batching_has_no_mean_batch():
    spec = replace(SPEC, continuous_batching=True)
    found = summarize(spec, False, snapshot(spec, [REPLICA], [report()]), 0)
    assert (found.requests, found.mean_batch_size) == (30, None)


def test_an_elastic_version_shows_its_bounds_and_why_it_has_its_size():
    spec = replace(SPEC, min_workers=1, max_workers=4)
    decisions = {spec.key: Decision(3, waiting=9, rate=2.0, why="a reason")}
    found = summarize(spec, False, snapshot(spec, [REPLICA], [report()], decisions), 0)
    assert (found.state, found.replicas_wanted, found.bounds) == ("loading", 3, [1, 4])
    assert found.scaled == "a reason (9 waiting, 0.0 requests/s arrive, 2.0 requests/s for each replica)"


def test_a_version_that_rests_is_not_stopped():
    spec = replace(SPEC, min_workers=0, max_workers=4, idle_timeout_s=60)
    assert summarize(spec, False, snapshot(spec, [], []), 0).state == "resting"


def test_replicas_without_a_device_are_a_notice():
    spec = replace(SPEC, device_type="gpu", replicas_per_device=1)
    [notice] = summarize(
        spec, False, replace(snapshot(spec, [], []), hosts={"a": Host("cuda", (Device(0),))}), 0
    ).notices
    assert notice.startswith("m 1.0: 1 of 2 replicas have no device: ")


def test_status_shows_models_from_redis_without_secrets(run, note_server, redis_url):
    # Given a model that fails and waits
    note_server(redis_url=redis_url)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        registry = Registry(client)
        registry.register(SPEC)
        registry.report(
            SPEC, "m-1.0@here", report(failures=1, reason="replica 0 ended\nValueError: [bold]no")
        )
    # When its state is asked for
    shown, data = run("status"), json.loads(run("status", "--json").stdout)
    # Then both forms tell it, and neither tells a password or a token
    assert (shown.exit_code, data["pid"]) == (0, os.getpid())
    assert "m 1.0: ValueError: [bold]no" in shown.stdout
    assert "0/2" in shown.stdout
    assert "1.0 *" in shown.stdout
    assert (data["models"][0]["state"], data["models"][0]["replicas_wanted"]) == ("failing", 2)
    for secret in ("secret", redis_url.partition(":")[2].partition("@")[0].strip("/:")):
        assert secret not in shown.stdout + json.dumps(data)


def test_done_counts_the_requests_of_replicas_that_have_ended(run, note_server, redis_url):
    # Given a replica that has run 30 requests, and the stored counts of it and of those before it
    note_server(redis_url=redis_url)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        registry = Registry(client)
        registry.register(SPEC)
        registry.report(SPEC, "m-1.0@here", replace(report(), replicas=(REPLICA,)))
        measured = Measurements()
        measured.merge(BATCH_SIZE, ("m", "1.0"), [0] * len(BATCH_SIZE.buckets) + [1], 1200.0, model="m")
        measured.merge(BATCH_SIZE, ("m", "2.0"), [0] * len(BATCH_SIZE.buckets) + [1], 7.0, model="m")
        measured.flush(client)
    # When the status is asked for
    [model] = json.loads(run("status", "--json").stdout)["models"]
    # Then
    assert (model["requests"], model["mean_batch_size"]) == (1200, 3.0)


def test_a_lane_that_no_pool_reads_is_shown_with_the_one_that_was_meant(run, note_server, redis_url):
    # Given a model, and entries in lanes of other names
    note_server(redis_url=redis_url)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        Registry(client).register(SPEC)
        client.xadd(keys.lane("m", "1.0"), {"body": b"x"})
        client.xadd("marq:{m}:urgent:1.0", {"body": b"x"})
        client.xadd("marq:{n}:normal:1.0", {"body": b"x"})
        client.xadd("marq:{n}:low", {"body": b"x"})
        client.xadd("marq:{m}:low", {"body": b"x"})  # a node passes it on
        client.xgroup_create("marq:{old}:normal:1.0", keys.GROUP, mkstream=True)  # nothing waits there
        client.xadd(keys.dead_letters("m"), {"body": b"x"})
    # When the status is asked for
    shown, data = run("status").stdout, json.loads(run("status", "--json").stdout)
    # Then both forms name them
    assert "No pool reads marq:{m}:urgent:1.0: 1 entries wait." in shown
    found = {lane["key"]: lane["meant"] for lane in data["unread_lanes"]}
    assert found.keys() == {"marq:{m}:urgent:1.0", "marq:{n}:normal:1.0", "marq:{n}:low"}
    assert found["marq:{n}:normal:1.0"] == "marq:{m}:normal:1.0"
    assert found["marq:{n}:low"] == "marq:{m}:low"


def test_status_says_that_no_node_is_alive(run, note_server, redis_url):
    note_server(redis_url=redis_url)
    assert "No node is alive: replicas start when `marq node` runs." in run("status").stdout
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.NODES, {"gpu-2": Registry(client).now()})
    assert "No node" not in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["nodes"] == 1


def test_status_has_all_addresses(run, note_server, redis_url):
    settings = Settings(grpc_inference_port=7170, grpc_management_port=7171, enable_grpc=True)
    note_server(
        redis_url=redis_url, metrics_address="http://127.0.0.1:3", settings=settings.model_dump(mode="json")
    )
    shown = run("status").stdout
    assert "Metrics     http://127.0.0.1:3" in shown
    assert "gRPC        127.0.0.1:7170, management 127.0.0.1:7171" in shown


def test_status_is_repeated_until_it_is_interrupted(note_server, redis_url):
    note_server(redis_url=redis_url)
    command = [MARQ, "status", "--watch", "--json", "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        views = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        _, error = watching.communicate(timeout=60)
    assert [view["pid"] for view in views] == [os.getpid()] * 3
    assert (watching.returncode, error) == (130, "")


def test_status_and_stop_know_a_node(run, state_dir, redis_url):
    # Given a node
    with subprocess.Popen(["sleep", "600"]) as node:
        server_file.write_node(state_dir, server_file.Node(node.pid, redis_url, "gpu-2", "/logs"))
        # When its status is asked for
        shown, data = run("status").stdout, json.loads(run("status", "--json").stdout)
        assert "Node        gpu-2" in shown
        assert (data["node"], data["pid"], data["models"]) == ("gpu-2", node.pid, [])
        assert json.loads(run("top", "--json").stdout) == []
        refused = run("predict", "m", __file__)
        assert "Only the node gpu-2 does: give the address of a gateway with --url." in refused.stderr
        # Then it can be stopped, too
        assert run("stop").stdout == f"marq (pid {node.pid}) has stopped.\n"
    assert run("status").exit_code == 1


def test_status_and_stop_say_that_nothing_runs(run, state_dir):
    stopped, shown = run("stop"), run("status")
    assert (stopped.exit_code, shown.exit_code) == (0, 1)
    assert stopped.stdout == f"No marq server runs with the state directory {state_dir}.\n"
    assert "No marq server runs" in shown.stderr


def test_a_redis_that_is_gone_is_one_line(run, note_server):
    note_server()
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Redis at redis://127.0.0.1:1/0 cannot be used: ")


def test_stop_spares_a_process_that_only_got_the_pid_of_a_killed_server(run, state_dir, note_server):
    # Given the file of a server that was killed long before its pid was given to another process
    with subprocess.Popen(["sleep", "60"]) as other:
        note_server(pid=other.pid)
        long_ago = time.time() - 1000
        os.utime(state_dir / server_file.FILE_NAME, (long_ago, long_ago))
        # When the server is to be stopped
        result = run("stop")
        # Then the other process goes on
        assert result.stdout.startswith("No marq server runs")
        assert other.poll() is None
        other.kill()


def test_stop_ends_the_process_and_tells_when_it_does_not(run, note_server, monkeypatch, tmp_path, redis_url):
    key_file = tmp_path / token_store.KEY_FILE
    with redis.Redis.from_url(redis_url) as client:
        token_store.create(client, 60)
        token_store.write_key_file(tmp_path, client)
    with subprocess.Popen(["sleep", "60"]) as server:
        note_server(pid=server.pid, key_file=str(key_file), redis_url=redis_url)
        result = run("stop")
        assert not key_file.exists()  # its tokens have ended with the server
        assert (result.exit_code, result.stdout) == (0, f"marq (pid {server.pid}) has stopped.\n")
    monkeypatch.setattr("marq.cli.commands.server.stop.STOP_MARGIN_S", 0.2)
    monkeypatch.setattr("marq.host.stop_limit.LEAST_S", 0.0)
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    with subprocess.Popen(["python3", "-c", stubborn], stdout=subprocess.PIPE) as server:
        server.stdout.readline()
        note_server(pid=server.pid)
        result = run("stop")
        assert result.exit_code == 1
        assert "has not stopped after 0.2 s" in result.stderr
        server.kill()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (3_700, "1 h 1 min"), (172_800, "2 d")]
)
def test_durations_have_two_parts_at_most(seconds, text):
    assert status_tables._duration(seconds) == text
