"""Which bodies of a run may be files, and where a run's entries are after a move."""

import json
import time

import pytest
from workflow_plant import Plant, running, workflow_of

from marq.queue.redelivery import pass_on
from marq.workflows.timeouts import end_overdue

CASES = {
    "a chain": ({"a": ["b"], "b": ["c"]}, (), (), "abc", True),
    "one node": ({"a": []}, (), (), "a", True),
    "a join": ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, (), (), "ad", True),
    "several leaves": ({"a": ["b", "c"]}, (), (), "a", True),
    "a list": ({"a": ["b"], "b": ["c"], "c": ["d"]}, (), "c", "ad", True),
    "a list first": ({"a": ["b"]}, (), "a", "b", False),
    "a choice": ({"a": ["b"], "b": ["c", "d"]}, "b", (), "a", True),
    "a choice of lists": ({"a": ["b"], "b": ["c", "d"], "c": ["e"], "d": ["e"]}, "b", "c", "e", True),
    "a first choice of lists": ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, "a", "b", "d", False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_redis_has_to_read_or_to_make_stays_in_redis(case):
    dag, choose, mapped, as_files, takes_file = CASES[case]
    workflow = workflow_of(dag, choose, mapped)
    nodes = json.loads(workflow.plan)["nodes"]
    assert {name for name, node in nodes.items() if node.get("file")} == set(as_files)
    assert workflow.takes_file is takes_file


def test_a_time_out_takes_out_an_entry_that_was_left_to_another_host(redis_url):
    site = Plant(redis_url, workflow_of({"a": ["b"]}, timeout_ms=1))

    def play():
        assert pass_on(site.connection, site.spec("a"), site.take("a"))
        time.sleep(0.01)
        assert end_overdue(site.redis) == 1

    assert running(site, play).status == 500
    assert site.queued == 0
