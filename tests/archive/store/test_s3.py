"""Downloads from S3, against a server that checks each signature as S3 does."""

import subprocess
import sys

import pytest
from s3_endpoint import s3_endpoint

from archive.errors import ArchiveExists, ArchiveNotFound, DownloadFailed
from archive.store.model_store import ModelStore

DATA = bytes(range(256)) * 8000  # more than one piece


@pytest.fixture(scope="module")
def endpoint():
    with s3_endpoint() as running:
        running.objects |= {"models/m.mar": DATA, "models/a%20b%2Bc.mar": DATA, "models/a b+c.mar": DATA}
        yield running


@pytest.fixture
def set_environment(monkeypatch):
    def set_(values):
        monkeypatch.delenv("AWS_REGION", raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_


@pytest.fixture
def store(tmp_path, endpoint, set_environment):
    set_environment(endpoint.environment())
    (tmp_path / "store").mkdir()
    return ModelStore(tmp_path / "store", [f"{endpoint.url}/.*", "s3://models/.*"])


def reason(store, url, **options) -> str:
    with pytest.raises(DownloadFailed) as caught:
        store.resolve(url, **options)
    assert str(caught.value) == f"Failed to download archive from: {url}"
    assert list(store.root.iterdir()) == []
    return caught.value.reason


def test_a_download_is_signed_as_s3_expects_it(store, endpoint):
    path = store.resolve(f"{endpoint.url}/models/m.mar", s3_sse_kms=True)
    assert (path, path.read_bytes()) == (store.root / "m.mar", DATA)
    assert list(store.root.iterdir()) == [path]


def test_names_with_spaces_and_signs_are_signed_as_they_are_sent(store, endpoint):
    path = store.resolve(f"{endpoint.url}/models/a%20b%2Bc.mar?versionId=a%2Fb", s3_sse_kms=True)
    assert (path.name, path.read_bytes()) == ("a%20b%2Bc.mar", DATA)


def test_a_session_token_is_part_of_what_is_signed(store, endpoint, set_environment):
    set_environment({"AWS_SESSION_TOKEN": "of-a-role"})
    store.resolve(f"{endpoint.url}/models/m.mar", s3_sse_kms=True)
    assert endpoint.requests[-1]["X-Amz-Security-Token"] == "of-a-role"
    assert "x-amz-security-token" in endpoint.requests[-1]["Authorization"]


def test_without_the_option_nothing_is_signed(store, endpoint):
    assert "403" in reason(store, f"{endpoint.url}/models/m.mar")
    assert "Authorization" not in endpoint.requests[-1]


def test_a_wrong_secret_is_refused_and_not_told(store, endpoint, set_environment, caplog):
    set_environment(endpoint.environment(secret="wrong/secret"))
    assert "403" in reason(store, f"{endpoint.url}/models/m.mar", s3_sse_kms=True)
    assert "SignatureDoesNotMatch" in reason(store, "s3://models/m.mar")
    assert "wrong/secret" not in caplog.text


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION"])
def test_what_is_missing_from_the_environment_is_told(store, endpoint, monkeypatch, missing):
    monkeypatch.delenv(missing)
    if missing == "AWS_ACCESS_KEY_ID":
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    told = reason(store, f"{endpoint.url}/models/m.mar", s3_sse_kms=True)
    assert told.startswith(
        "Miss environment variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_DEFAULT_REGION\n"
    )
    assert "presigned URL" in told


def test_the_newer_name_of_the_region_will_do(store, endpoint, monkeypatch):
    monkeypatch.setenv("AWS_REGION", monkeypatch.delenv("AWS_DEFAULT_REGION") or "eu-central-1")
    assert store.resolve(f"{endpoint.url}/models/m.mar", s3_sse_kms=True).is_file()


def test_an_s3_uri_without_credentials_says_what_to_set(store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "AWS_SECRET_ACCESS_KEY" in reason(store, "s3://models/m.mar")


def test_a_presigned_url_needs_no_credentials(store, endpoint, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    path = store.resolve(endpoint.presign("models/m.mar"))
    assert (path, path.read_bytes()) == (store.root / "m.mar", DATA)


def test_an_s3_uri_is_downloaded_into_the_store(store, caplog):
    caplog.set_level("INFO")
    seen = []
    path = store.resolve("s3://models/m.mar", progress=lambda *args: seen.append(args))
    assert (path, path.read_bytes()) == (store.root / "m.mar", DATA)
    assert list(store.root.iterdir()) == [path]
    assert (seen[-1], len(seen) > 1) == ((len(DATA), len(DATA)), True)
    assert f"downloaded m.mar: {len(DATA)} bytes" in caplog.text
    with pytest.raises(ArchiveExists, match=r"^Model file already exists m\.mar$"):
        store.resolve("s3://models/m.mar")
    store.remove_download("s3://models/m.mar")
    assert list(store.root.iterdir()) == []


def test_a_key_with_spaces_is_found(store):
    assert store.resolve("s3://models/a b+c.mar").read_bytes() == DATA


def test_an_object_that_is_missing_is_told(store):
    assert "The specified key does not exist" in reason(store, "s3://models/nope.mar")


@pytest.mark.parametrize("url", ["s3://models/", "s3://models/.", "s3:///m.mar"])
def test_a_uri_that_names_no_object_is_refused(store, url):
    assert reason(ModelStore(store.root, ["s3://.*"]), url)


def test_an_s3_uri_must_be_allowed(store):
    with pytest.raises(ArchiveNotFound, match="does not match any allowed URL"):
        store.resolve("s3://other/m.mar")


def test_the_size_limit_holds(store, endpoint):
    limited = ModelStore(store.root, [".*"], max_download_bytes=len(DATA) - 1)
    assert "larger than the limit" in reason(limited, "s3://models/m.mar")
    assert "larger than the limit" in reason(limited, f"{endpoint.url}/models/m.mar", s3_sse_kms=True)


def test_without_the_library_the_error_names_it(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert "pip install botocore" in reason(store, "s3://models/m.mar")


def test_the_library_is_not_loaded_before_it_is_needed():
    code = "import sys, archive.store.model_store; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
