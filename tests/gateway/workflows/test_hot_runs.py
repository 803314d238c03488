"""Runs of workflows inside the HTTP protocol, byte by byte: no sockets, no Redis."""

import asyncio
import json

import pytest
from gateway_in_process import GatewayInProcess, request
from thread_replica import make_spec
from workflow_plant import workflow_of

from gateway.inference.request_hooks import WORKFLOW
from gateway.metrics.counting import OTHER
from gateway.routing.route import Route
from gateway.workflows.admission import Admission
from gateway.workflows.hot_runs import HotRuns
from gateway.workflows.known import KnownWorkflows
from marq.errors import QueueUnavailable
from marq.queue.scripts import CANCEL_RUN, START_RUN
from marq.workflows.runs import Runs

PATH = "/wfpredict/w"
STARTED, NO_LANES = b"*1\r\n:1\r\n", b"*1\r\n:0\r\n"  # what Redis answers to START_RUN


class Recorder:
    """A hook that notes the ends."""

    def __init__(self):
        self.ends = []

    def before(self, route, fields):
        pass

    def after(self, route, fields, end):
        self.ends.append((end.kind, end.workflow, end.status, end.answer_bytes))


class Site:
    """A gateway with the workflow `w`, and a connection to it."""

    def __init__(self, dag):
        self.hook = Recorder()
        self.gateway = GatewayInProcess([self.hook])
        routes, workflow, known = self.gateway.routes, workflow_of(dag), KnownWorkflows()
        for node in workflow.nodes:
            spec = make_spec(workflow.model(node.name), min_workers=1, job_queue_size=1)
            route = Route(spec, False, routes.backlogs.of(spec), None)
            routes._by_name[spec.name] = {"1.0": route}
        self.start = routes.find(workflow.model(workflow.graph.start), "1.0")
        known.urls[PATH.encode()] = workflow
        runs = Runs(self.gateway.broker)
        hot = HotRuns(self.gateway.predictor, Admission(routes), known, runs)
        self.protocol, self.transport = self.gateway.connect(runs=hot)

    async def begin(self, *headers, body=b"in"):
        """Sends a request; returns the id of its run."""
        self.protocol.data_received(request(body, *headers, path=PATH))
        await self.settle()
        [run_id] = await self.gateway.queued()
        return run_id

    async def settle(self):
        for _ in range(5):  # the tasks of a start or of a cancellation take their turns
            await asyncio.sleep(0)

    async def redis_says(self, reply):
        self.gateway.broker._commands.data_received(reply)
        await self.settle()

    @property
    def sent(self):
        return self.gateway.redis.written


@pytest.fixture
async def site():
    return Site({"a": ["b"]})


async def test_a_run_is_started_by_the_script_and_its_answer_is_the_response(site):
    run_id = await site.begin("Content-Type: text/plain")
    assert START_RUN in site.sent
    assert b"\r\nmarq:{w}:run:" + run_id + b"\r\n" in site.sent
    await site.redis_says(STARTED)
    assert (site.transport.written, site.start.backlog.waiting) == (b"", 1)
    site.gateway.reply(run_id, b"answer")
    lines = site.transport.written.split(b"\r\n")
    assert lines[:2] == [b"HTTP/1.1 200 OK", b"x-request-id: " + run_id]
    assert lines[-4:] == [b"content-type: application/json", b"content-length: 6", b"", b"answer"]
    assert site.gateway.asked == []
    assert site.start.backlog.waiting == 0
    assert site.hook.ends == [(WORKFLOW, "w", 200, 6)]
    assert [(what.kind, what.route, what.status) for what, _ in site.gateway.meter.take()] == [
        (OTHER, None, 200)
    ]


async def test_the_answer_may_come_before_redis_confirms_the_start(site):
    run_id = await site.begin()
    site.gateway.reply(run_id, b"answer")
    await site.redis_says(STARTED)
    assert site.transport.written.endswith(b"answer")
    assert (site.start.backlog.waiting, CANCEL_RUN in site.sent) == (0, False)


async def test_the_connection_takes_the_next_request(site):
    first = await site.begin()
    await site.redis_says(STARTED)
    site.gateway.reply(first, b"one")
    site.protocol.data_received(request(b"in", path=PATH))
    await site.settle()
    _, second = await site.gateway.queued()
    await site.redis_says(STARTED)
    site.gateway.reply(second, b"two")
    assert site.transport.written.endswith(b"two")


async def test_the_answers_of_several_leaves_are_printed_as_torchserve_does():
    site = Site({"a": ["b", "c"]})
    run_id = await site.begin()
    site.gateway.reply(run_id, b'{"b": {"x":1}, "c": {}}')
    assert site.transport.written.endswith(b'{\n  "b": {\n    "x": 1\n  },\n  "c": {}\n}\n')


async def test_a_run_whose_start_node_has_no_lanes_is_refused(site):
    await site.begin()
    await site.redis_says(NO_LANES)
    head, _, body = site.transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["message"] == "The model of node a was unregistered."
    assert site.start.backlog.waiting == 0
    assert site.hook.ends == [(WORKFLOW, "w", 503, 0)]


async def test_a_client_that_goes_away_cancels_its_run_once_it_is_started(site):
    run_id = await site.begin()
    site.protocol.connection_lost(None)
    await site.settle()
    assert CANCEL_RUN not in site.sent, "Redis may get that before the start"
    await site.redis_says(STARTED)
    assert site.sent.endswith(b"marq:{w}:run:" + run_id + b"\r\n")
    assert CANCEL_RUN in site.sent
    assert site.hook.ends == [(WORKFLOW, "w", 499, 0)]
    assert site.start.backlog.waiting == 0


async def test_a_run_whose_answer_is_lost_is_cancelled_and_answered(site):
    await site.begin()
    await site.redis_says(STARTED)
    site.gateway.broker.pending.fail_all(QueueUnavailable("lost"))
    await site.settle()
    assert site.transport.written.startswith(b"HTTP/1.1 503 ")
    assert CANCEL_RUN in site.sent
    assert site.hook.ends == [(WORKFLOW, "w", 503, 0)]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH, ["X-Request-Timeout: 1"]),
        (PATH, ["X-Marq-Priority: high"]),
        (PATH + "?a=1", []),
        (PATH + "/", []),
        ("/wfpredict/other", []),
    ],
)
async def test_what_needs_more_takes_the_asgi_endpoint(site, path, headers):
    site.protocol.data_received(request(b"in", *headers, path=path))
    await site.settle()
    assert len(site.gateway.asked) == 1
    assert site.sent == b""


async def test_a_run_for_which_there_is_no_room_is_refused(site):
    await site.begin()
    protocol, transport = site.gateway.connect(runs=site.protocol.runs)
    protocol.data_received(request(b"in", path=PATH))
    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert b"jobQueueSize" in transport.written
    assert site.hook.ends == [(WORKFLOW, "w", 503, 0)]
    assert site.start.backlog.waiting == 1
