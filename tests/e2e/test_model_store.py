"""A server that looks for new archives in its model store."""

import httpx
import pytest
from support import wait_for

HANDLER = """
def handle(data, context):
    return data and ["seen"] * len(data)
"""


@pytest.mark.slow
def test_an_archive_that_is_put_into_the_store_is_served_without_a_restart(
    tmp_path, start_server, make_archive
):
    server = start_server(tmp_path, "all", model_store_poll_s=0.1)
    archive = make_archive(tmp_path / "elsewhere", "late", HANDLER, config={"minWorkers": 1})
    archive.rename(tmp_path / "late.mar")

    def answered() -> bool:
        return httpx.post(f"{server.inference}/predictions/late", content="x").text == "seen"

    wait_for(answered, 120, "a replica of the new model")
