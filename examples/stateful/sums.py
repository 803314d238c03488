"""Running sums: the smallest model with state. Each sequence of requests has a sum of its own."""

from collections import OrderedDict

from ts.context import Context


class RunningSums:
    """Adds the number in each request to the sum of its sequence, and answers with the sum."""

    def initialize(self, context: Context) -> None:
        """The sums are in this process: all requests of a sequence come here."""
        self._most: int = context.model_yaml_config["handler"]["capacity"]
        self._sums: OrderedDict[str, int] = OrderedDict()

    def handle(self, data: list[dict[str, bytearray | str]], context: Context) -> list[int]:
        """The new sums. A batch has one request of a sequence at most."""
        return [self._add(context, index, int(row["body"])) for index, row in enumerate(data)]

    def _add(self, context: Context, index: int, number: int) -> int:
        name = context.get_sequence_id(index)
        # A client that sent no id finds here the one that the server has made up
        context.set_response_header(index, context.header_key_sequence_id, name)
        self._sums[name] = self._sums.pop(name, 0) + number
        if len(self._sums) > self._most:
            self._sums.popitem(last=False)  # of the sequence that has been silent for longest
        return self._sums[name]
