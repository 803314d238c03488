"""How many requests wait for model versions, for those that ask now and then."""

from collections.abc import Iterable
from typing import Any

from marq import keys
from marq.queue import scripts
from marq.registry.spec import ModelSpec

SAMPLES = 1  # nodes of a lane from which the script estimates a size that is not used here


def waiting(client: Any, specs: Iterable[ModelSpec]) -> dict[str, int]:
    """How many requests no replica has taken yet, by the key of the version, in one pipeline.

    Lanes that cannot be read count as empty. Raises redis.RedisError where Redis does not answer.
    """
    script, asked = client.register_script(scripts.BACKLOG.text), list(specs)
    with client.pipeline(transaction=False) as pipe:
        for spec in asked:
            lanes = keys.lanes(spec.name, spec.version)
            script(lanes, [keys.GROUP, SAMPLES, len(lanes)], client=pipe)
        replies = pipe.execute(raise_on_error=False)
    return {
        spec.key: 0 if isinstance(reply, Exception) else reply[0][0]
        for spec, reply in zip(asked, replies, strict=True)
    }
