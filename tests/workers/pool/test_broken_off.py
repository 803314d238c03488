"""A replica that ends between two commands of an answer leaves nothing behind that nobody cleans up."""

import pytest

from marq import keys
from marq.queue.entries import decode
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply
from workers.pool.recovery import Recovery
from workers.pool.replica_process import Ending

LANE, CONSUMER = keys.lane("m", "1.0"), "m-1.0@here/0/1"


@pytest.mark.parametrize("sent", range(4))
def test_wherever_an_answer_breaks_off_the_request_is_run_again_or_gone(
    sent, register, make_pool, registry, add, plain, client
):
    # Given a request that was run, and a replica that ends when only the first commands are sent
    spec = register()
    reader = keys.replies("gateway")
    client.xgroup_create(reader, keys.GROUP, mkstream=True)
    add(b"a", replies=reader)
    [[_, [(entry, fields)]]] = client.xreadgroup(keys.GROUP, CONSUMER, {LANE: ">"})
    request = decode(LANE, entry, [part for pair in fields.items() for part in pair])
    commands = Publisher(spec, "cpu").commands([(request, Reply(request.id, 200, b"!"))], 0)
    assert [command[0] for command in commands] == ["XADD", "XDEL", "XACK"]
    if sent:
        plain.pipeline(commands[:sent])
    # When its pool puts back what it held
    Recovery(make_pool(spec, node="here"), registry).requeue(CONSUMER, [], "cpu", Ending("killed"))
    # Then the request waits in the front, or is answered; the lane is empty in any case
    assert client.xlen(LANE) == client.xpending(LANE, keys.GROUP)["pending"] == 0
    waits, answered = client.xlen(keys.lane("m", "1.0", keys.FRONT)), client.xlen(reader)
    assert (waits, answered) == ((1, 0), (1, 1), (0, 1), (0, 1))[sent]
