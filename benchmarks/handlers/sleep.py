"""Takes 20 ms for a batch of any size, as a GPU does that is not full; or BENCH_SLEEP_MS."""

import os
import time

SECONDS = float(os.environ.get("BENCH_SLEEP_MS", "20")) / 1000


class SleepHandler:
    def initialize(self, context):  # noqa: ARG002
        self.initialized = True

    def handle(self, data, context):  # noqa: ARG002
        time.sleep(SECONDS)
        return ["OK"] * len(data)
