"""Answers at once: the load measures the server."""


class NoopHandler:
    def initialize(self, context):  # noqa: ARG002
        self.initialized = True

    def handle(self, data, context):  # noqa: ARG002
        return ["OK"] * len(data)
