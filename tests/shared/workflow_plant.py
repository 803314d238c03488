"""A workflow in a real Valkey whose replicas are played by the test."""

import asyncio

import redis

from marq import keys
from marq.connections.blocking import Connection
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead, decode
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import WholeReply
from marq.registry import lanes
from marq.registry.spec import ModelSpec
from marq.workflows.runs import Runs
from marq.workflows.spec import Node, NodeSettings, Workflow
from marq.workflows.store import WorkflowStore

STARTED = 1_000
DIAMOND = {"a": ["b", "c"], "b": ["d"], "c": ["d"]}


def workflow_of(dag, choose=(), mapped=(), **settings):
    nodes = dict.fromkeys([*dag, *(each for after in dag.values() for each in after)])
    given = NodeSettings(**{"retry_attempts": 0, **settings})
    made = Workflow("w", "w.war", "/w.war", "h.py", dag, given, ())
    return Workflow(
        **{
            **vars(made),
            "choose": tuple(choose),
            "map": tuple(mapped),
            "nodes": tuple(Node(name, None, given) for name in made.graph.nodes if name in nodes),
        }
    )


def spec_of(workflow, node):
    return ModelSpec(workflow.model(node), "1.0", "", "/w.war", f"h.py:{node}", workflow=workflow.name)


class Plant:
    """A workflow whose replicas are played by the test."""

    def __init__(self, url, workflow):
        self.redis = redis.Redis.from_url(url)
        self.url, self.workflow, self.connection = url, workflow, Connection(url)
        WorkflowStore(self.redis).add(workflow)
        for node in workflow.graph.nodes:
            lanes.create(self.redis, spec_of(workflow, node))

    def spec(self, node):
        return spec_of(self.workflow, node)

    def take(self, node, consumer="pool/0/1", lane=keys.NORMAL):
        """The next entry of a node; None if there is none."""
        spec = spec_of(self.workflow, node)
        name = keys.lane(spec.name, spec.version, lane)
        found = self.redis.xreadgroup(keys.GROUP, consumer, {name: ">"}, count=1)
        if not found:
            return None
        entry, fields = found[0][1][0]
        return decode(name, entry, [part for pair in fields.items() for part in pair])

    def answer(self, node, request, body=b"", status=200, started=STARTED, **options):
        publisher = Publisher(spec_of(self.workflow, node), "cpu")
        reply = Reply(request.id, status, body)
        self.connection.send(publisher.commands([(request, reply)], started, **options))

    def work(self, node, body, status=200):
        """Takes and answers one entry of a node; returns it."""
        request = self.take(node)
        self.answer(node, request, body, status)
        return request

    @property
    def left(self):
        """The keys of runs that are left."""
        return self.redis.keys("marq:{w}:*")

    @property
    def queued(self):
        models = [self.workflow.model(node) for node in self.workflow.graph.nodes]
        return sum(self.redis.xlen(lane) for model in models for lane in keys.lanes(model, "1.0"))


def running(plant, play, head=None, body=b"in", priority=keys.NORMAL):
    """Starts a run, lets `play` be the replicas, and returns the answer."""

    async def run():
        broker = Broker(plant.url)
        await broker.start()
        try:
            answer = WholeReply(loop=asyncio.get_running_loop())
            fields = EntryFields(body, head or EntryHead())
            runs = Runs(broker)
            await runs.start(plant.workflow, b"r1", fields, priority, answer)
            outcome = play(runs) if play.__code__.co_argcount else play()
            if asyncio.iscoroutine(outcome):
                return await outcome
            return await asyncio.wait_for(answer, 30)
        finally:
            await broker.stop()

    return asyncio.run(run())
