"""The OpenAPI documents: FastAPI's own, with every error and the routes that it does not see."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from gateway.asgi import OWN_ROUTES
from gateway.inference.urls import FORMS, MODEL, VERSION, Form
from gateway.routing.routes import Routes
from marq.errors import pretty

Document = dict[str, Any]
OTHER_METHODS = ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]  # than GET, where any is answered
SCHEMAS: Document = {
    "Error": {
        "type": "object",
        "required": ["code", "type"],
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "type": {"type": "string"},
            "message": {"type": "string"},
        },
    }
}
ERROR: Document = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
NOT_FOUND = "There is no such model, version, job or dead letter."
TOO_LARGE = "The body is larger than `max_request_size` (management: `max_management_request_size`)."
TOKEN_ERROR = {400: "A parameter or the token is missing or wrong."}
OWN_TOKEN_ERROR = {401: "The token is missing or wrong."}
OWN_ERRORS = {
    400: "A parameter or header is wrong.",
    409: "The job, batch or file is in a state that does not allow it, or the dead letter is not a request.",
    429: "Too many jobs or batches wait; `Retry-After` is the time to wait in seconds.",
}
SERVER_ERRORS = {500: "The server failed.", 503: "Redis does not answer, or no replica can."}
PREDICTION_ERRORS = {
    **TOKEN_ERROR,
    404: NOT_FOUND,
    413: TOO_LARGE,
    500: "The replica that ran the request ended, three times.",
    503: "The model has no replica, or its handler failed.",
    504: "No answer within the model's `clientTimeoutInMills`.",
    507: "The handler ran out of memory.",
}
PARAMETERS = {MODEL: "The registered name.", VERSION: "Default: the default version."}
MODEL_QUERY = {"model_name": "Default: the model that the server was started with, if it is the only one."}


class DocumentedAPI(FastAPI):
    """A FastAPI application whose document is complete; `runs_models`: the raw routes are in front of it."""

    runs_models = False

    def openapi(self) -> Document:
        if self.openapi_schema is None:
            document = super().openapi()
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _add_errors(operation, method, path)
            if self.runs_models:
                for form in FORMS:
                    document["paths"].setdefault(form.pattern, {}).update(_raw_item(form))
            document.setdefault("components", {}).setdefault("schemas", {}).update(SCHEMAS)
            self.openapi_schema = document
        return self.openapi_schema or {}


def router() -> APIRouter:
    """The path of TorchServe for the document of an address."""
    api = APIRouter(tags=["documents"])

    @api.options("/")
    @api.get("/api-description")
    @api.api_route("/api-description", methods=OTHER_METHODS, include_in_schema=False)
    def description(request: Request) -> Response:
        """This document."""
        return _json(request.app.openapi())

    return api


def inference_router(routes: Routes) -> APIRouter:
    """The path of TorchServe for the document of one model on the inference address."""
    api = APIRouter(tags=["documents"])

    @api.options("/predictions/{model_name}")
    @api.options("/predictions/{model_name}/{model_version}")
    @api.options("/explanations/{model_name}")
    @api.options("/explanations/{model_name}/{model_version}")
    def model_description(request: Request, model_name: str, model_version: str | None = None) -> Response:
        """The document of one model. Runs nothing."""
        routes.find(model_name, model_version)
        return _json(model_document(request.app.openapi(), model_name, f"RESTful API for: {model_name}"))

    return api


def model_document(document: Document, model_name: str, title: str, prefix: str = "/") -> Document:
    """The part of a document that is about one model."""
    paths = {
        path.replace("{model_name}", model_name): _without_model_name(operations)
        for path, operations in document["paths"].items()
        if "{model_name}" in path and path.startswith(prefix)
    }
    return {**document, "info": {"title": title, "version": "1.0.0"}, "paths": paths}


def _without_model_name(operations: Document) -> Document:
    """The operations without the path parameter that is filled in."""

    def stays(parameter: Document) -> bool:
        return bool(parameter["name"] != "model_name")

    return {
        method: {**operation, "parameters": list(filter(stays, operation.get("parameters", ())))}
        for method, operation in operations.items()
    }


def _add_errors(operation: Document, method: str, path: str) -> None:
    own = path.startswith(OWN_ROUTES)
    errors = (OWN_TOKEN_ERROR if own else TOKEN_ERROR) | SERVER_ERRORS
    if own or "{" in path:
        errors[404] = NOT_FOUND
    if method == "post":
        errors[413] = TOO_LARGE
    if own:
        errors |= OWN_ERRORS
    if not own:
        operation["responses"].pop("422", None)  # FastAPI's own; here a wrong parameter is a 400
    for status, text in errors.items():
        operation["responses"].setdefault(str(status), {"description": text})
    for status, response in operation["responses"].items():
        if int(status) >= 400 and "content" not in response:
            response["content"] = ERROR


def _raw_item(form: Form) -> Document:
    in_path = {name[1:-1]: text for name, text in PARAMETERS.items() if name in form.pattern}
    in_query = {} if in_path else MODEL_QUERY
    operation: Document = {
        "tags": ["inference"],
        "summary": form.summary,
        "description": "All methods do the same. The answer is the handler's own.",
        "operationId": "run" + form.pattern.translate(str.maketrans("/:{}", "____")),
        "parameters": [
            *(_parameter(name, text, "path") for name, text in in_path.items()),
            *(_parameter(name, text, "query") for name, text in in_query.items()),
        ],
        "requestBody": {"content": {kind: {"schema": {}} for kind in ("application/json", "*/*")}},
        "responses": {
            "200": {"description": "The handler's answer, with the handler's content type."},
            "default": {"description": "A status that the handler chose."},
        },
    }
    for status, text in PREDICTION_ERRORS.items():
        operation["responses"][str(status)] = {"description": text, "content": ERROR}
    return {"post": operation}


def _parameter(name: str, text: str, where: str) -> Document:
    return {
        "name": name, "in": where, "required": where == "path", "description": text,
        "schema": {"type": "string"},
    }  # fmt: skip


def _json(value: Document) -> Response:
    return Response(pretty(value), media_type="application/json")
