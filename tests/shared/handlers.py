"""Sources of the small handlers that the end-to-end tests serve."""

from gate import HOLD

ECHO = '''
class Echo:
    """Answers with what it got; some bodies ask for more."""

    def initialize(self, context):  # noqa: ARG002
        self.context = context

    def handle(self, data, context):  # noqa: ARG002
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

# Takes half a second, or as long as a gate is closed that the body names.
SLOW = (
    HOLD
    + """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    for index, row in enumerate(data):
        body = bytes(row["body"]).decode()
        if body.startswith("hold "):
            hold(body.removeprefix("hold "))
        elif body.startswith("report "):
            context.report_progress(index, 0.5, "half done")
            hold(body.removeprefix("report "))
        else:
            time.sleep(0.5)
    return ["done"] * len(data)
"""
)

SQUARE = """
import time


class Square:
    def initialize(self, context):  # noqa: ARG002
        pass

    def handle(self, data, context):  # noqa: ARG002
        time.sleep(0.005)
        return [int(row["body"]) ** 2 for row in data]
"""

POISON = """
import os
import signal


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    if any(row["body"] == "poison" for row in data):
        os.kill(os.getpid(), signal.SIGKILL)
    return [row["body"] for row in data]
"""

BROKEN = """
raise RuntimeError("this module cannot be imported")
"""

# A body says how many parts, and what happens after these; a third word is a gate behind the first part.
STREAM = (
    HOLD
    + """
import os
import signal

from ts.handler_utils.utils import send_intermediate_predict_response


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    body = data[0]["body"]
    gate = ""
    if isinstance(body, str):
        parts, ending, gate = (*body.split(), "")[:3]
        parts = int(parts)
    else:
        parts, ending = 3, "end"
    for position in range(len(data)):
        context.set_response_content_type(position, "text/plain")
    for number in range(parts):
        texts = [f"{position}.{number} " for position in range(len(data))]
        send_intermediate_predict_response(texts, context.request_ids, "part", 200, context)
        if gate and number == 0:
            hold(gate)
        time.sleep(0.15 if ending == "slow" else 0.01)
    if ending == "fail":
        raise ValueError("not to the end")
    if ending == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if ending == "unknown":
        send_intermediate_predict_response([object()], context.request_ids, "part", 200, context)
    return [f"{position}.end" for position in range(len(data))]
"""
)

ASYNC = """
import asyncio
from pathlib import Path

from ts.handler_utils.utils import send_intermediate_predict_response


async def hold(gate):
    with Path(f"{gate}.reached").open("a") as reached:
        reached.write(".")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)


class Patient:
    def initialize(self, context):
        self.loop = context.loop = asyncio.get_event_loop()  # cannot be copied
        self.loop.run_until_complete(asyncio.sleep(0))

    async def handle(self, data, context):
        assert asyncio.get_running_loop() is self.loop is context.loop
        body = data[0]["body"]
        if body == "fail":
            raise ValueError("only this one")
        if body == "exit":
            raise SystemExit(3)
        if body == "hang":
            await asyncio.sleep(3600)
        if body.startswith("stream "):
            gate = body.removeprefix("stream ")
            while not Path(gate).exists():
                send_intermediate_predict_response(["part "], context.request_ids, "", 200, context)
                await asyncio.sleep(0.1)
            return ["end"]
        if body.startswith("hold "):
            await hold(body.removeprefix("hold "))
        return [f"{row['body']} {context.request_ids[index]}" for index, row in enumerate(data)]
"""
