import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from marq.queue.ids import BLOCK, new_id


def test_ids_are_version_4_uuids_as_text():
    for _ in range(3 * BLOCK):
        made = uuid.UUID(text := new_id().decode())
        assert (made.version, made.variant) == (4, uuid.RFC_4122)
        assert str(made) == text


def test_ids_are_unique_over_many():
    assert len({new_id() for _ in range(100_000)}) == 100_000


def test_every_digit_that_may_be_random_is_random():
    digits = [set(column) for column in zip(*(new_id().decode() for _ in range(2000)), strict=True)]
    fixed = {8: {"-"}, 13: {"-"}, 14: {"4"}, 18: {"-"}, 19: set("89ab"), 23: {"-"}}
    assert {at: fixed.get(at, set("0123456789abcdef")) for at in range(36)} == dict(enumerate(digits))


def test_a_forked_process_makes_ids_of_its_own():
    # Given a process that has a block of random digits at hand
    new_id()
    reader, writer = os.pipe()
    # When it forks and both make ids
    if (child := os.fork()) == 0:
        os.write(writer, b"".join(new_id() for _ in range(10)))
        os._exit(0)
    own = {new_id() for _ in range(BLOCK)}
    os.waitpid(child, 0)
    # Then they have none in common
    made = os.read(reader, 1000)
    theirs = {made[at : at + 36] for at in range(0, len(made), 36)}
    os.close(reader)
    os.close(writer)
    assert len(theirs) == 10
    assert not own & theirs


def test_threads_never_get_the_same_id():
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_id() for _ in range(5000)], range(8)))
    assert len(set().union(*made)) == 40_000
