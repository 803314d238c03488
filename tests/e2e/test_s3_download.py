"""A model that a started server fetches from S3."""

import httpx
import pytest
from s3_endpoint import s3_endpoint

SOURCE = "def handle(data, context):\n    return ['from S3'] * len(data or [])\n"


@pytest.fixture(scope="module")
def endpoint():
    with s3_endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def server(endpoint, start_server, make_archive, tmp_path_factory):
    elsewhere, store = tmp_path_factory.mktemp("bucket"), tmp_path_factory.mktemp("store")
    for name in ("uri", "signed"):
        endpoint.objects[f"models/v1/{name}.mar"] = make_archive(elsewhere, name, SOURCE).read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in endpoint.environment().items():
            patch.setenv(name, value)
        return start_server(
            store, [], ["--disable-token-auth", "--enable-model-api"],
            allowed_urls=f"s3://models/.*,{endpoint.url}/.*",
        )  # fmt: skip


def register(server, **query):
    query |= {"initial_workers": "1", "synchronous": "true"}
    return httpx.post(f"{server.management}/models", params=query, timeout=60)


def test_an_s3_uri_is_registered_and_serves(server, endpoint):
    answer = register(server, url="s3://models/v1/uri.mar")
    assert answer.status_code == 200, answer.text
    assert server.predict("uri").text == "from S3"
    assert "AWS4-HMAC-SHA256" in endpoint.requests[-1]["Authorization"]


def test_a_signed_download_is_registered_and_serves(server, endpoint):
    url = f"{endpoint.url}/models/v1/signed.mar"
    refused = register(server, url=url)
    assert (refused.status_code, refused.json()["type"]) == (400, "DownloadArchiveException")
    answer = register(server, url=url, s3_sse_kms="true")
    assert answer.status_code == 200, answer.text
    assert server.predict("signed").text == "from S3"


def test_what_s3_refuses_is_told(server):
    answer = register(server, url="s3://models/v1/nope.mar")
    assert (answer.status_code, answer.json()["type"]) == (400, "DownloadArchiveException")
    assert "The specified key does not exist" in answer.json()["message"]
    assert "does not match any allowed URL" in register(server, url="s3://secret/m.mar").json()["message"]
