"""The text of reports in Redis: other versions of marq read and write it, too."""

import json

from marq.registry.reports import PoolReport, ReplicaReport

REPLICA = {
    "id": 1, "pid": 42, "device": "cuda:0", "state": "ready", "started": 1700000000.5, "memory": 1000,
    "requests": 7, "batches": 3, "fitting": 4, "generation": 2,
}  # fmt: skip
POOL = {
    "node": "host", "wanted": 2, "generation": 2, "failures": 1, "failing_since": 1700000001.0,
    "reason": "ended", "cannot_load": False, "replicas": [REPLICA], "reported": 1700000002.25,
}  # fmt: skip
PREPARATION = {
    "node": "host", "wanted": 2, "failures": 0, "failing_since": None, "reason": "", "cannot_load": False,
    "preparing": True, "replicas": [], "reported": 1700000002.25,
}  # fmt: skip


def test_reports_of_pools_and_preparations_keep_their_keys():
    for stored in (POOL, PREPARATION):
        text = json.dumps(stored)
        assert PoolReport.from_json(text).to_json() == text


def test_unknown_keys_of_a_later_marq_are_ignored():
    later = {**POOL, "colour": "red", "replicas": [{**REPLICA, "shape": "round"}]}
    assert PoolReport.from_json(json.dumps(later)) == PoolReport.from_json(json.dumps(POOL))


def test_keys_that_an_earlier_marq_did_not_write_have_their_defaults():
    known = ("id", "pid", "device", "state", "started")
    earlier = {"node": "host", "wanted": 1, "replicas": [{key: REPLICA[key] for key in known}]}
    replica = ReplicaReport(1, 42, "cuda:0", "ready", 1700000000.5)
    assert PoolReport.from_json(json.dumps(earlier)) == PoolReport("host", 1, replicas=(replica,))


def test_a_preparation_has_succeeded_failed_or_goes_on():
    found = [
        PoolReport("host", 1, preparing=preparing, failures=failures)
        for preparing, failures in ((None, 1), (True, 0), (False, 0), (False, 1))
    ]
    assert [report.is_prepared for report in found] == [True, False, True, False]
    assert [report.preparation_failed for report in found] == [False, False, False, True]
