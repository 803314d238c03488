"""A handler's three steps as a pipeline: while one part of a batch infers, the next is preprocessed."""

import os
import queue
import threading
import time

HANDLER_METHODS = ["preprocess", "inference", "postprocess"]

_STOP = object()


class MicroBatching:
    """Replaces the `handle` of a handler: `self.handle = MicroBatching(self, micro_batch_size=4)`.

    Each step runs in threads of its own, `parallelism` says how many (default one each). Results keep
    the order of the requests. What a step raises is raised to the caller of the batch.
    """

    def __init__(self, parent_handler, micro_batch_size=1, parallelism=None):
        self.handler = parent_handler
        self.micro_batch_size = micro_batch_size
        self._position = threading.local()
        self._queues = {name: queue.SimpleQueue() for name in [*HANDLER_METHODS, "done"]}
        self._threads = {name: [] for name in HANDLER_METHODS}
        self._parallelism = dict.fromkeys(HANDLER_METHODS, 1)
        self._scale()
        if parallelism is not None:
            self.parallelism = parallelism

    def __call__(self, data, context):
        start = time.perf_counter()
        handler = self.handler
        handler.context = context
        if os.environ.get("ENABLE_TORCH_PROFILER"):
            output, _ = handler._infer_with_profiler(data=data)
        elif handler._is_describe():
            output = [handler.describe_handle()]
        elif handler._is_explain():
            output = handler.explain_handle(handler.preprocess(data), data)
        else:
            output = self.handle(data)
        elapsed_ms = round((time.perf_counter() - start) * 1000, 2)
        context.metrics.add_time("HandlerTime", elapsed_ms, None, "ms")
        return output

    def handle(self, data):
        """The results of a batch that is cut into micro-batches and run through the pipeline."""
        size = self.micro_batch_size
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        for index, part in enumerate(parts):
            self._queues["preprocess"].put((index, part, None))
        finished = sorted((self._queues["done"].get() for _ in parts), key=lambda piece: piece[0])
        for _, _, error in finished:
            if error is not None:
                raise error
        return [result for _, results, _ in finished for result in results]

    def get_micro_batch_idx(self):
        """The index of the micro-batch that the calling step processes."""
        return self._position.index

    @property
    def parallelism(self):
        return self._parallelism

    @parallelism.setter
    def parallelism(self, parallelism):
        unknown = set(parallelism) - set(HANDLER_METHODS)
        if unknown:
            raise AssertionError(f"parallelism is for {HANDLER_METHODS}, not for {sorted(unknown)}")
        self._parallelism.update(parallelism)
        self._scale()

    def shutdown(self):
        """Stop all threads; the pipeline cannot be used afterwards."""
        threads = [thread for group in self._threads.values() for thread in group]
        self._stop()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def __del__(self):
        self._stop()

    def _stop(self):
        self._parallelism = dict.fromkeys(HANDLER_METHODS, 0)
        self._scale()

    def _scale(self):
        """Start missing threads and end surplus ones."""
        following = [*HANDLER_METHODS[1:], "done"]
        for name, next_name in zip(HANDLER_METHODS, following, strict=True):
            threads = self._threads[name]
            inbox, outbox = self._queues[name], self._queues[next_name]
            while len(threads) < self._parallelism[name]:
                arguments = (self.handler, name, inbox, outbox, self._position)
                threads.append(threading.Thread(target=_run_step, args=arguments, name=name, daemon=True))
                threads[-1].start()
            while len(threads) > self._parallelism[name]:
                threads.pop()
                inbox.put(_STOP)


def _run_step(handler, name, inbox, outbox, position):
    """Runs one thread: it passes on a micro-batch whose earlier step failed."""
    while (piece := inbox.get()) is not _STOP:
        index, value, error = piece
        if error is None:
            position.index = index
            try:
                value = getattr(handler, name)(value)
            except BaseException as raised:
                value, error = None, raised
        outbox.put((index, value, error))
