"""Archives in S3: signed downloads of https URLs, and `s3://bucket/key` URIs. Needs botocore."""

import os
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from archive.errors import ArchiveError
from archive.formats.limits import CHUNK_BYTES

if TYPE_CHECKING:
    from botocore.session import Session

# TorchServe's text.
_NOTHING_TO_SIGN_WITH = (
    "Miss environment variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_DEFAULT_REGION"
)
_ADVICE = "Set them for the server (or give it an AWS profile or role), or use a presigned URL."
_NO_LIBRARY = "S3 needs the package botocore: pip install botocore. Presigned https URLs work without it."
_DEFAULT_REGION = "us-east-1"  # of a bucket that is named without one; S3 says where it really is

Sign = Callable[[str], Mapping[str, str]]


class S3Unavailable(ArchiveError):
    """Raised when a package or setting for S3 is missing, or S3 refuses a request."""


def is_s3(url: str) -> bool:
    """Whether it is an `s3://` URI."""
    return url[:5].lower() == "s3://"


def signer() -> Sign:
    """A function from a URL to the headers (AWS Signature V4) with which to GET it.

    That is all that objects encrypted with SSE-KMS ask for. Credentials and region are those that AWS's own
    tools would use. Raises S3Unavailable without them.
    """
    session = _session()
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    credentials, region = session.get_credentials(), _region(session)
    if credentials is None or not region:
        raise S3Unavailable(f"{_NOTHING_TO_SIGN_WITH}\n{_ADVICE}")

    def sign(url: str) -> Mapping[str, str]:
        request = AWSRequest("GET", url)
        S3SigV4Auth(credentials, "s3", region).add_auth(request)
        return dict(request.headers.items())

    return sign


def received(url: str) -> Iterator[tuple[bytes, int]]:
    """The content of an `s3://` URI piece by piece, each with the size of all. Raises S3Unavailable.

    `AWS_ENDPOINT_URL` (or `AWS_ENDPOINT_URL_S3`) leads to other servers that speak S3.
    """
    bucket, _, key = url[5:].partition("/")
    if not bucket or not key:
        raise S3Unavailable("An S3 URI names a bucket and a key: s3://bucket/path/model.mar")
    session = _session()
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        found = _client(session).get_object(Bucket=bucket, Key=key)
        yield from ((data, found["ContentLength"]) for data in found["Body"].iter_chunks(CHUNK_BYTES))
    except NoCredentialsError as error:
        raise S3Unavailable(f"{_NOTHING_TO_SIGN_WITH}\n{_ADVICE}") from error
    except (BotoCoreError, ClientError) as error:
        raise S3Unavailable(str(error)) from error


def put(url: str, content: bytes, content_type: str = "") -> None:
    """Writes an object; where one with this key exists, it is replaced. Raises S3Unavailable."""
    bucket, _, key = url[5:].partition("/")
    session = _session()
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    kind = {"ContentType": content_type} if content_type else {}
    try:
        # As a file, because http.client copies bytes
        _client(session).put_object(Bucket=bucket, Key=key, Body=BytesIO(content), **kind)
    except NoCredentialsError as error:
        raise S3Unavailable(f"{_NOTHING_TO_SIGN_WITH}\n{_ADVICE}") from error
    except (BotoCoreError, ClientError) as error:
        raise S3Unavailable(str(error)) from error


def _session() -> "Session":
    try:
        from botocore.session import get_session
    except ImportError as error:
        raise S3Unavailable(_NO_LIBRARY) from error
    return get_session()


def _client(session: "Session") -> Any:
    from botocore.config import Config

    settings = Config(
        connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3}
    )
    return session.create_client("s3", region_name=_region(session) or _DEFAULT_REGION, config=settings)


def _region(session: "Session") -> str | None:
    """botocore itself does not read AWS_REGION, which newer AWS tools do."""
    region: str | None = session.get_config_variable("region") or os.environ.get("AWS_REGION")
    return region
