import inspect
import re

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.http import uvicorn_internals
from gateway.http.exchange import Exchange
from gateway.http.middleware import Front
from gateway.http.protocols import ManagementProtocol
from marq.settings.fields import Settings


async def test_this_uvicorn_has_every_name_that_the_fast_path_touches():
    assert uvicorn_internals.missing() == []


@pytest.mark.parametrize("name", ["pipeline", "timeout_keep_alive_task"])
async def test_a_missing_name_is_reported(name):
    class Other(HttpToolsProtocol):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            delattr(self, name)

    assert uvicorn_internals.missing(Other) == [f"HttpToolsProtocol.{name}"]


def test_uvicorn_touches_nothing_of_a_cycle_that_an_exchange_lacks():
    touched = set(re.findall(r"cycle\.(\w+)", inspect.getsource(HttpToolsProtocol))) - {"run_asgi"}
    assert touched == {*uvicorn_internals.CYCLE} | touched & {"message_event"}
    assert all(hasattr(Exchange, name) for name in touched)


async def test_with_another_uvicorn_a_gateway_says_so_and_takes_the_asgi_path(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(uvicorn_internals, "missing", lambda: ["HttpToolsProtocol.pipeline"])
    front = Front(Settings(state_dir=tmp_path), predictor=None, meter=None)
    assert front.protocol.func is ManagementProtocol
    assert "lacks HttpToolsProtocol.pipeline: predictions take the slower ASGI path" in caplog.text
