"""Jobs whose bodies and results are objects of moto's S3, by name and by presigned URL."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from ports import free_port
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow
HANDLER = """
def handle(data, context):
    return data and [bytes(row["body"])[::-1] for row in data]
"""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}  # fmt: skip


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)])
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/moto-api/").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, what="moto")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        yield url
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def s3(endpoint) -> Any:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="ours")
    return client


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory, s3) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "backwards", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = start_server(store, gateway_workers=1, job_url_hosts="127.0.0.1, s3://ours")
    running.wait_until_ready("backwards")
    return running


def run(server: RunningServer, input_url: str, output_url: str) -> httpx.Response:
    headers = {"X-Marq-Input-URL": input_url, "X-Marq-Output-URL": output_url}
    answer = httpx.post(f"{server.inference}/jobs/backwards", headers=headers)
    return server.result(answer.json()["job_id"])


def test_objects_by_name(server, s3):
    content = bytes(range(256)) * 20_000
    s3.put_object(Bucket="ours", Key="in", Body=content)
    assert run(server, "s3://ours/in", "s3://ours/a/folder/out").json()["size"] == len(content)
    assert s3.get_object(Bucket="ours", Key="a/folder/out")["Body"].read() == content[::-1]


def test_objects_by_presigned_url(server, s3):
    s3.put_object(Bucket="ours", Key="in", Body=b"abc")
    urls = [
        s3.generate_presigned_url(method, Params={"Bucket": "ours", "Key": key})
        for method, key in (("get_object", "in"), ("put_object", "presigned"))
    ]
    answer = run(server, *urls)
    assert answer.json()["output_url"] == urls[1].partition("?")[0]
    assert s3.get_object(Bucket="ours", Key="presigned")["Body"].read() == b"cba"


def test_an_object_that_is_not_there_fails_the_job(server, s3):
    answer = run(server, "s3://ours/missing", "s3://ours/out")
    assert (answer.status_code, "NoSuchKey" in answer.json()["message"]) == (502, True)
