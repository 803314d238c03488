import subprocess
import sys
import time

import pytest
from support import wait_for

from marq import keys
from marq.metrics.measurements import HOST, Series
from marq.settings.loading import load
from ts.metrics import metric_collector
from workers.node.host_metrics import SystemMetrics

HOST_METRICS = {
    "CPUUtilization", "MemoryUsed", "MemoryAvailable", "MemoryUtilization", "DiskUsage", "DiskUtilization",
    "DiskAvailable",
}  # fmt: skip


@pytest.fixture
def make(tmp_path):
    def make(**settings) -> SystemMetrics:
        return SystemMetrics(load(state_dir=tmp_path, **{"metrics_mode": "prometheus", **settings}), 0)

    return make


@pytest.fixture
def stored(client):
    """The gauges in Redis: {(name, *labels): value}."""

    def read() -> dict[tuple[str, ...], float]:
        found = {}
        for source in client.zrange(keys.METRICS, 0, -1):
            for field, value in client.hgetall(source).items():
                series = Series.read(field)
                found[series.name, *series.values] = float(value.split()[0])
        return found

    return read


def test_the_host_is_measured(make, stored, client):
    make().collect_if_due(client)
    found = stored()
    assert {name for name, *_ in found} == HOST_METRICS
    assert found["MemoryUsed", "Host", HOST] > 10
    assert 0 < found["DiskUtilization", "Host", HOST] < 100


def test_the_host_is_measured_again_when_the_interval_has_passed(make, stored, client):
    metrics = make(metric_time_interval=3600)
    metrics.collect_if_due(client)
    client.flushall()
    began = time.process_time()
    for _ in range(100):
        metrics.collect_if_due(client)
    assert time.process_time() - began < 1
    assert stored() == {}


def test_it_can_be_turned_off(make, stored, client):
    make(disable_system_metrics=True).collect_if_due(client)
    assert stored() == {}


def test_in_log_mode_the_host_is_measured_into_the_log(make, stored, client, tmp_path):
    make(metrics_mode="log").collect_if_due(client)
    lines = (tmp_path / "logs/ts_metrics.log").read_text().splitlines()
    assert {line.split(" - ")[1].split(".")[0] for line in lines} == HOST_METRICS
    assert all(f"|#Level:Host|#hostname:{HOST},timestamp:" in line for line in lines)
    assert stored() == {}


def test_a_command_of_ones_own_takes_the_place_of_the_collector(make, stored, client, tmp_path):
    script = tmp_path / "own.py"
    script.write_text(
        "import sys\n"
        "print(f'CPUUtilization.Percent:{sys.argv[1]}|#Level:Host|#hostname:other,1700000000')\n"
        "print('[METRICS]MemoryUsed.Megabytes:7|#Level:Host|#type:GAUGE|#hostname:other,1700000000')\n"
        "print('Unknown.Count:7|#Level:Host|#hostname:other,1700000000')\n"
        "print('something else')\n"
    )
    metrics = make(system_metrics_cmd=f"{script} 42")

    def values() -> dict[tuple[str, ...], float]:
        metrics.collect_if_due(client)
        return stored()

    assert wait_for(values, what="the script's metrics") == {
        ("CPUUtilization", "Host", "other"): 42,
        ("MemoryUsed", "Host", "other"): 7,
    }


def test_a_command_that_fails_is_told(make, client, caplog):
    metrics = make(system_metrics_cmd="no/such/script.py")

    def has_failed() -> bool:
        metrics.collect_if_due(client)
        return "system_metrics_cmd ended with exit code 2" in caplog.text

    wait_for(has_failed, what="the failure")


def test_torchserves_script_prints_the_same_metrics():
    script = str(metric_collector.__file__)
    result = subprocess.run(
        [sys.executable, script, "--gpu", "0"],
        capture_output=True,
        text=True,
        input="1,999999999\n",
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    *metrics, first, second = result.stdout.splitlines()
    assert {line.split(".")[0] for line in metrics} == HOST_METRICS
    assert all(f"|#Level:Host|#hostname:{HOST}," in line for line in metrics)
    assert first.startswith("1:")
    assert second == "999999999:0"
