"""The parameters of the management API, and their OpenAPI descriptions."""

import inspect
import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError

from gateway.asgi import Document, Responses
from marq.control.registration import Registration
from marq.errors import BadRequest
from marq.registry.model_serving_settings import MOST_WORKERS
from marq.registry.setting import Setting
from marq.registry.spec import SETTINGS

LARGEST = 2**31 - 1
PAGE = 100
ERRORS: Responses = {
    400: {"description": "A parameter is missing or wrong."},
    404: {"description": "The model or version does not exist."},
    503: {"description": "Redis does not answer, or the model has no ready replica."},
}
STARTED: Responses = {
    202: {"description": "The replicas are being started or stopped."},
    206: {"description": "Some replicas are ready, others are not yet."},
    500: {"description": "No replica could be started; the reason is in the message."},
    507: {"description": "No replica could be started because memory is short."},
}
DISABLED: Document = {"description": "`enable_model_api` is off."}
REGISTERED: Responses = {
    **STARTED,
    405: DISABLED,
    409: {"description": "The version is registered already."},
}
UNREGISTERED: Responses = {
    403: {"description": "The default version cannot be removed while other versions exist."},
    405: DISABLED,
    408: {"description": "The running requests have not finished in time; the version stays registered."},
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")


def _integer(least: int, most: int = LARGEST, unset: int | None = None) -> Callable[[object], int | None]:
    """Reads 7 and "7"; an empty text, and TorchServe's number for "not given", count as not given."""

    def read(value: object) -> int | None:
        text = "" if value is None else str(value).strip()
        if not text or (unset is not None and text == str(unset)):
            return None
        if isinstance(value, bool) or not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise PydanticCustomError(
                "integer",
                "must be an integer from {least} to {most}, got {given}",
                {"least": least, "most": most, "given": repr(value)[:80]},
            )
        return int(text)

    return read


def _true(value: object) -> bool:
    """True for `true`, in upper or lower case."""
    return str(value).lower() == "true"


PageNumber = Annotated[int | None, BeforeValidator(_integer(-LARGEST))]
Workers = Annotated[int | None, BeforeValidator(_integer(0, MOST_WORKERS))]
Seconds = Annotated[int | None, BeforeValidator(_integer(1, unset=-1))]
ModelVersion = Annotated[str | None, Field(description="Default: the default version.")]
Flag = Annotated[bool, BeforeValidator(_true)]

Limit = Annotated[PageNumber, Query(description=f"Number of models on a page, at most {PAGE}.")]
PageToken = Annotated[PageNumber, Query(description="`nextPageToken` of the page before.")]
Customized = Annotated[Flag, Query(description="Whether to ask the handler to describe the model, too.")]
MinWorker = Annotated[Workers, Query(description="Minimum number of replicas. Default: 1.")]
MaxWorker = Annotated[
    Workers,
    Query(
        description="Maximum number of replicas. Default: `min_worker`, or unchanged where the number of "
        "replicas follows the queue."
    ),
]
Synchronous = Annotated[Flag, Query(description="Whether to answer only when the change is done.")]
Force = Annotated[
    Flag, Query(description="Whether more replicas than hosts like this one can run are meant.")
]
Timeout = Annotated[Seconds, Query(description="Maximum time to wait in seconds.")]


class RegisterParameters(BaseModel):
    """The query string, or the JSON body, of a register request, without the settings of the model."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    url: str | None = Field(
        None, description="Required. A file or directory of the model store, or an allowed URL."
    )
    model_name: str | None = Field(None, description="Default: the manifest's.")
    handler: str | None = Field(None, description="Default: the manifest's, then `default_service_handler`.")
    runtime: str | None = Field(None, description="`python`, `python3` or `LSP`. Default: the manifest's.")
    initial_workers: Workers = Field(None, description="Number of replicas to start.")
    force: Flag = Field(
        False, description="Whether more replicas than hosts like this one can run are meant."
    )
    synchronous: Flag = Field(True, description="Whether to answer only when the replicas are ready.")
    s3_sse_kms: Flag = Field(
        False,
        description="Sign the download from S3 with this server's AWS credentials (botocore).",
    )

    def registration(self) -> Registration:
        """Raises BadRequest without a URL."""
        if self.url is None:
            raise BadRequest("Parameter url is required.")
        given = {each.name: getattr(self, each.api) for each in SETTINGS if each.api}
        return Registration(
            url=self.url,
            model_name=self.model_name or None,
            handler=self.handler or None,
            runtime=self.runtime or None,
            initial_workers=self.initial_workers,
            s3_sse_kms=self.s3_sse_kms,
            settings={name: value for name, value in given.items() if value is not None},
        )


def _number(setting: Setting) -> object:
    """The type of a setting's parameter."""
    bounds = _integer(setting.least, LARGEST if setting.most is None else setting.most, setting.unset)
    return Annotated[int | None, BeforeValidator(bounds)]


_SETTINGS: dict[str, Any] = {
    each.api: (_number(each), Field(None, description=each.description)) for each in SETTINGS if each.api
}
_AllParameters = create_model("RegisterParameters", __base__=RegisterParameters, **_SETTINGS)


def _changes(**given: int | None) -> dict[str, int]:
    """The settings that a request changes, by the names of ModelSpec's fields."""
    names = {each.api: each.name for each in SETTINGS}
    return {names[api]: value for api, value in given.items() if value is not None}


def _change(setting: Setting) -> inspect.Parameter:
    text = (
        f"{setting.description} Given without `min_worker` and `max_worker`, it leaves the replicas as they "
        "are. Default: unchanged."
    )
    return inspect.Parameter(
        setting.api,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_number(setting), Query(description=text)],
    )


# FastAPI reads the parameters of a dependency from its signature.
setattr(  # noqa: B010 - mypy does not know that functions have one
    _changes, "__signature__", inspect.Signature([_change(each) for each in SETTINGS if each.changeable])
)
Changes = Annotated[dict[str, int], Depends(_changes)]


def register_parameters(given: Document) -> RegisterParameters:
    """Reads a query string or a JSON object; null means not given. Raises BadRequest."""
    try:
        return _AllParameters.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"Parameter {first['loc'][0]}: {first['msg']}") from None


def json_object(body: bytes) -> Document:
    """Raises BadRequest."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"The body must be a JSON object, not {type(value).__name__}.")
    return value


def register_operation() -> Document:
    """How the register route, which reads its parameters itself, appears in the OpenAPI document."""
    schema = _AllParameters.model_json_schema()
    parameters = [
        {"name": name, "in": "query", "required": name == "url", "schema": property_}
        | ({"description": property_["description"]} if "description" in property_ else {})
        for name, property_ in schema["properties"].items()
    ]
    return {"parameters": parameters, "requestBody": {"content": {"application/json": {"schema": schema}}}}
