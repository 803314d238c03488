"""Sequences and continuous batching together: a running sum whose additions may be streamed.

An even number is answered with the sum. An odd one is answered with the sum in several parts, and the next
request of its sequence does not wait for the last of them. 0 ends the sequence, and -1 the streams of the
sequence.
"""

from collections import OrderedDict
from collections.abc import Callable

from ts.context import Context

PARTS = 5


class Stream:
    """One request: how many parts of its answer are left; 0: it has an answer of one piece."""

    def __init__(self, sequence: str, left: int) -> None:
        self.sequence, self.left = sequence, left


class Sums:
    """The sums, and the requests that are live."""

    def initialize(self, context: Context) -> None:
        """`context.cache` has the live requests by their ids."""
        self._most: int = context.model_yaml_config["handler"]["capacity"]
        self._sums: OrderedDict[str, int] = OrderedDict()
        context.cache = {}

    def handle(self, data: list[dict[str, bytearray | str]], context: Context) -> list[str]:
        """Adds the numbers of new requests, and sends the sums of their sequences to all live ones."""
        sums = [self._sum(context, index, row) for index, row in enumerate(data)]
        context.stopping_criteria = [self._criterion(context, each) for each in context.request_ids.values()]
        return [f"{each}\n" for each in sums]

    def _sum(self, context: Context, index: int, row: dict[str, bytearray | str]) -> int:
        name, request_id = context.get_sequence_id(index), context.get_request_id(index)
        context.set_response_header(index, context.header_key_sequence_id, name)
        if request_id not in context.cache:
            self._begin(context, index, name, int(row["body"]))
        return self._sums[name]

    def _begin(self, context: Context, index: int, name: str, number: int) -> None:
        self._sums[name] = self._sums.pop(name, 0) + max(0, number)
        if len(self._sums) > self._most:
            self._sums.popitem(last=False)
        if number == 0:
            context.set_response_header(index, context.header_key_sequence_end, name)
        if number == -1:
            for live in context.cache.values():
                live.left = 1 if live.sequence == name and live.left else live.left
        context.cache[context.get_request_id(index)] = Stream(name, PARTS if number % 2 and number > 0 else 0)

    def _criterion(self, context: Context, request_id: str) -> Callable[[str], bool | None]:
        """None: the answer is complete, and was not streamed; True: that was the last part."""

        def decide(_: str) -> bool | None:
            live = context.cache[request_id]
            streams, live.left = live.left > 0, live.left - 1
            if live.left > 0:
                return False
            del context.cache[request_id]
            return True if streams else None

        return decide
