"""The parameters of the management API, and the documents about them."""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from marq.control.registration import MOST_ROWS, MOST_WORKERS, Registration
from marq.errors import BadRequest

LARGEST = 2**31 - 1
PAGE = 100
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter is missing or wrong."},
    404: {"description": "There is no such model or version."},
    503: {"description": "Redis does not answer, or no replica can."},
}
STARTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "Replicas are started or stopped from now on."},
    206: {"description": "Some replicas are ready, others are not yet."},
    500: {"description": "No replica could be started; the reason is in the message."},
    507: {"description": "No replica could be started, for want of memory."},
}
DISABLED = {"description": "`enable_model_api` is off."}
REGISTERED: dict[int | str, dict[str, Any]] = {
    **STARTED,
    405: DISABLED,
    409: {"description": "The version is registered already."},
}
UNREGISTERED: dict[int | str, dict[str, Any]] = {
    403: {"description": "The default version cannot go while there are others."},
    405: DISABLED,
    408: {"description": "What runs has not ended in time; the version stays."},
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")


def _integer(least: int, most: int = LARGEST, unset: int | None = None) -> Callable[[Any], int | None]:
    """Reads 7 and "7"; nothing, and the number with which TorchServe says so, count as not given."""
    allowed = f"a whole number from {least} to {most}"

    def read(value: Any) -> int | None:
        text = "" if value is None else str(value).strip()
        if not text or (unset is not None and text == str(unset)):
            return None
        if isinstance(value, bool) or not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise PydanticCustomError(
                "whole_number",
                "{given} was given; allowed is {allowed}.",
                {"given": repr(value)[:80], "allowed": allowed},
            )
        return int(text)

    return read


def _true(value: Any) -> bool:
    """Whatever is not `true`, in any case, is false."""
    return str(value).lower() == "true"


PageNumber = Annotated[int | None, BeforeValidator(_integer(-LARGEST))]
Workers = Annotated[int | None, BeforeValidator(_integer(0, MOST_WORKERS))]
Rows = Annotated[int | None, BeforeValidator(_integer(1, MOST_ROWS, unset=-1))]
Milliseconds = Annotated[int | None, BeforeValidator(_integer(0, unset=-100))]
Seconds = Annotated[int | None, BeforeValidator(_integer(1, unset=-1))]
Number = Annotated[int | None, BeforeValidator(_integer(1))]
ModelVersion = Annotated[str | None, Field(description="Default: the default version.")]
Flag = Annotated[bool, BeforeValidator(_true)]

Limit = Annotated[PageNumber, Query(description=f"Models on a page, {PAGE} at most.")]
PageToken = Annotated[PageNumber, Query(description="`nextPageToken` of the page before.")]
Customized = Annotated[Flag, Query(description="Whether to ask the handler, too.")]
MinWorker = Annotated[Workers, Query(description="The fewest replicas. Default: 1.")]
MaxWorker = Annotated[Workers, Query(description="The most replicas. Default: `min_worker`.")]
Attempts = Annotated[
    Number,
    Query(
        description="How often a request may be tried whose replicas end while they run it. Given without "
        "`min_worker` and `max_worker`, it leaves the replicas as they are. Default: unchanged."
    ),
]
Synchronous = Annotated[Flag, Query(description="Whether to answer only when it is done.")]
Timeout = Annotated[Seconds, Query(description="Seconds to wait at most.")]


class RegisterParameters(BaseModel):
    """The query string, or the JSON body, of a register request."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    url: str | None = Field(
        None, description="Required. A file or directory of the model store, or an allowed URL."
    )
    model_name: str | None = Field(None, description="Default: the manifest's.")
    handler: str | None = Field(None, description="Default: the manifest's, then `default_service_handler`.")
    runtime: str | None = Field(None, description="`python`, `python3` or `LSP`. Default: the manifest's.")
    batch_size: Rows = Field(None, description="The most requests in one call of the handler.")
    max_batch_delay: Milliseconds = Field(
        None, description="Milliseconds for which the oldest request waits for others at most."
    )
    initial_workers: Workers = Field(None, description="Replicas to start.")
    synchronous: Flag = Field(True, description="Whether to answer only when the replicas are ready.")
    response_timeout: Seconds = Field(None, description="Seconds that one batch may take.")
    startup_timeout: Seconds = Field(None, description="Seconds that a replica may take to be ready.")
    max_attempts: Number = Field(
        None, description="How often a request may be tried whose replicas end while they run it. Default: 3."
    )
    s3_sse_kms: Flag = Field(False, description="Not supported: use a presigned URL.")

    def registration(self) -> Registration:
        """Raises BadRequest without a URL."""
        if self.url is None:
            raise BadRequest("Parameter url is required.")
        return Registration(
            url=self.url,
            model_name=self.model_name or None,
            handler=self.handler or None,
            runtime=self.runtime or None,
            batch_size=self.batch_size,
            max_batch_delay_ms=self.max_batch_delay,
            initial_workers=self.initial_workers,
            response_timeout_s=self.response_timeout,
            startup_timeout_s=self.startup_timeout,
            max_attempts=self.max_attempts,
            s3_sse_kms=self.s3_sse_kms,
        )


def register_parameters(given: dict[str, Any]) -> RegisterParameters:
    """Reads a query string or a JSON object; null means not given. Raises BadRequest."""
    try:
        return RegisterParameters.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"Parameter {first['loc'][0]}: {first['msg']}") from None


def json_object(body: bytes) -> dict[str, Any]:
    """Raises BadRequest."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, not {type(value).__name__}.")
    return value


def register_operation() -> dict[str, Any]:
    """How the register route, which reads its parameters itself, appears in the OpenAPI document."""
    schema = RegisterParameters.model_json_schema()
    parameters = [
        {"name": name, "in": "query", "required": name == "url", "schema": property_}
        | ({"description": property_["description"]} if "description" in property_ else {})
        for name, property_ in schema["properties"].items()
    ]
    return {"parameters": parameters, "requestBody": {"content": {"application/json": {"schema": schema}}}}
