"""A loaded model whose handler is a coroutine function."""

import copy
import time
import types

from ts.service import enter, failed, finished


async def predict(self, batch):
    """`Service.predict` for a coroutine: each batch has a context of its own, so many may run at once."""
    shared = self.context
    # A socket cannot be copied, and its owner does not change.
    context = copy.deepcopy(shared, {id(shared.cl_socket): shared.cl_socket})
    rows, started = enter(context, batch), time.perf_counter()
    try:
        returned = await self._entry_point(rows, context)
    except Exception as error:
        return failed(context, error)
    return finished(context, returned, started)


class AsyncService:
    """Makes the `predict` of a service a coroutine function: `await AsyncService(service).predict(batch)`."""

    def __init__(self, service):
        self.service = service
        self.service.predict = types.MethodType(predict, service)

    async def predict(self, batch):
        return await self.service.predict(batch)
