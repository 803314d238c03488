"""Scripts that start and advance several runs in one call, against a real Valkey."""

import asyncio

import pytest
from workflow_plant import STARTED, Plant, running, spec_of, workflow_of

from marq import keys
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.publishing import Publisher
from marq.queue.redelivery import requeue
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import WholeReply
from marq.workflows.runs import Runs

IDS = (b"r1", b"r2", b"r3")


@pytest.fixture
def site(redis_url):
    return Plant(redis_url, workflow_of({"a": ["b"]}))


def play_all(site, play):
    """Starts the runs of IDS at the same time; returns their answers in that order."""

    async def run():
        broker = Broker(site.url)
        await broker.start()
        try:
            runs, loop = Runs(broker), asyncio.get_running_loop()
            answers = [WholeReply(loop=loop) for _ in IDS]
            starts = (
                runs.start(site.workflow, run_id, EntryFields(run_id), keys.NORMAL, answer)
                for run_id, answer in zip(IDS, answers, strict=True)
            )
            await asyncio.gather(*starts)
            play()
            return await asyncio.wait_for(asyncio.gather(*answers), 30)
        finally:
            await broker.stop()

    return asyncio.run(run())


def publish(site, node, requests):
    """Answers them in one call, each with its body twice."""
    publisher = Publisher(spec_of(site.workflow, node), "cpu")
    answers = [(request, Reply(request.id, 200, request.body * 2)) for request in requests]
    commands = publisher.commands(answers, STARTED)
    assert [command[1] for command in commands] == [scripts.ADVANCE]
    site.connection.send(commands)


def calls_of_scripts(site):
    return site.redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]


def test_runs_that_start_together_are_one_call(site):
    site.redis.config_resetstat()

    def play():
        assert calls_of_scripts(site) - failed_calls(site) == 1
        for node in ("a", "b"):
            publish(site, node, [site.take(node) for _ in IDS])

    replies = play_all(site, play)
    assert [(reply.id, bytes(reply.body)) for reply in replies] == [(each, each * 4) for each in IDS]
    assert site.left == []


def failed_calls(site):
    """Calls of a script that Redis did not know yet."""
    return site.redis.info("commandstats")["cmdstat_evalsha"]["failed_calls"]


def test_of_the_answers_in_one_call_only_those_count_whose_entries_are_pending(site):
    def play():
        requests = [site.take("a", f"pool/0/{number}") for number, _ in enumerate(IDS)]
        requeue(site.connection, spec_of(site.workflow, "a"), "pool/0/1", 3, [requests[1].ref])
        publish(site, "a", requests)
        followers = [site.take("b"), site.take("b")]
        assert [each.id for each in followers] == [b"r1", b"r3"]
        assert site.take("b") is None
        again = site.take("a", lane=keys.FRONT)
        assert again.id == b"r2"
        publish(site, "a", [again])
        publish(site, "b", [*followers, site.take("b")])

    assert [bytes(reply.body) for reply in play_all(site, play)] == [each * 4 for each in IDS]
    assert site.left == []


def test_a_try_goes_on_where_its_entry_was_moved(site):
    def play():
        first = site.take("a", "lost/0/1")
        requeue(site.connection, spec_of(site.workflow, "a"), "lost/0/1", 3, [first.ref])
        moved = site.take("a", lane=keys.FRONT)
        at = site.redis.hget("marq:{w}:run:r1", "at:a")
        assert at == b"%b@%d %b" % (moved.entry, first.queued_ms, moved.lane.encode())
        site.answer("a", moved, b"A")
        site.work("b", b"B")

    assert running(site, play).body == b"B"
