"""Answers with a megabyte."""

REPORT = "r" * 1_000_000


class ReportHandler:
    def initialize(self, context):  # noqa: ARG002
        self.initialized = True

    def handle(self, data, context):  # noqa: ARG002
        return [REPORT] * len(data)
