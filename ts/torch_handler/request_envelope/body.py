"""The plain value of each request."""

from .base import BaseEnvelope


class BodyEnvelope(BaseEnvelope):
    def parse_input(self, data):
        return [row.get("data") or row.get("body") for row in data]

    def format_output(self, data):
        return data
