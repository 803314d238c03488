"""Sources of the small handlers that the end-to-end tests serve."""

ECHO = '''
class Echo:
    """Answers with what it got; some bodies ask for more."""

    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        return [self.answer(row, index, context) for index, row in enumerate(data)]

    def answer(self, row, index, context):
        body = row.get("body")
        if body == {"status": 418}:
            context.set_response_status(418, "teapot", index)
            context.set_response_content_type(index, "text/tea")
            context.set_response_header(index, "x-pot", "small")
            return "short and stout"
        if body == "headers":
            return {
                "agent": context.get_request_header(index, "X-Agent"),
                "request": context.get_request_id(index),
                "path": context.get_request_header(index, "url_path"),
            }
        if body == "context":
            known = context.system_properties
            return {"name": context.model_name, "gpu": known["gpu_id"], "batch": known["batch_size"]}
        if body == "fail":
            raise ValueError("the handler's own reason")
        return bytes(body) if isinstance(body, bytearray) else body
'''

SLOW = """
import time


def handle(data, context):
    if data is None:
        return None
    time.sleep(0.5)
    return ["done"] * len(data)
"""

SQUARE = """
import time


class Square:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        time.sleep(0.005)
        return [int(row["body"]) ** 2 for row in data]
"""

POISON = """
import os
import signal


def handle(data, context):
    if data is None:
        return None
    if any(row["body"] == "poison" for row in data):
        os.kill(os.getpid(), signal.SIGKILL)
    return [row["body"] for row in data]
"""

BROKEN = """
raise RuntimeError("this module cannot be imported")
"""
