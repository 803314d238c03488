"""`/workflows` of the management API: register, list, describe, unregister; TorchServe's routes and texts."""

from typing import Annotated, Literal

import anyio.from_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.asgi import Document, Responses, content_type
from gateway.management.parameters import ERRORS, PAGE, Flag, Limit, PageToken, Seconds, json_object
from gateway.management.responses import json_answer, outcome
from gateway.management.waiting import WaitingRequests
from gateway.routing.routes import Routes
from gateway.unused_parameters import GIVEN
from gateway.uploads import Uploads
from marq.connections import clients
from marq.control.workflows import DEFAULT_TIMEOUT_S, WorkflowControl, WorkflowRegistration
from marq.errors import BadRequest
from marq.queue import depth
from marq.registry.models import Registry
from marq.settings.fields import Settings
from marq.workflows.drawing import mermaid, svg
from marq.workflows.spec import Workflow
from marq.workflows.store import WorkflowStore

SVG = "svg"
Drawing = Annotated[
    Literal["mermaid", "svg"] | None,
    Query(alias="format", description="A drawing, with the number of requests that wait for each node."),
]
REGISTERED: Responses = {
    409: {"description": "A workflow of that name is registered already."},
    500: {"description": "A node cannot be registered; then none is. The reason is in the message."},
}


class RegisterWorkflow(BaseModel):
    """The query string, or the JSON body, of a register request."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    url: str | None = Field(
        None, description="Required. An archive of the workflow store, or an allowed URL."
    )
    workflow_name: str | None = Field(None, description="Default: the manifest's.")
    response_timeout: Seconds = Field(None, description="Maximum time of a node's batch in seconds.")
    startup_timeout: Seconds = Field(None, description="Maximum time to start a replica in seconds.")
    s3_sse_kms: Flag = Field(
        False, description="Sign the download from S3 with this server's AWS credentials (botocore)."
    )

    def registration(self) -> WorkflowRegistration:
        """Raises BadRequest without a URL."""
        if self.url is None:
            raise BadRequest("Parameter url is required.")
        return WorkflowRegistration(
            self.url,
            self.workflow_name or "",
            self.response_timeout or DEFAULT_TIMEOUT_S,
            self.startup_timeout or DEFAULT_TIMEOUT_S,
            self.s3_sse_kms,
        )


def router(settings: Settings, routes: Routes) -> APIRouter:
    """All routes of workflows on the management address."""
    api = APIRouter(tags=["workflows"], responses=ERRORS)
    handlers = WorkflowManagement(settings, routes)
    api.get("/workflows")(handlers.list_workflows)
    api.post("/workflows", responses=REGISTERED, openapi_extra=_register_operation())(handlers.register)
    api.get("/workflows/{workflow_name}")(handlers.describe)
    api.delete("/workflows/{workflow_name}")(handlers.waiting.handler(handlers.unregister))
    return api


class WorkflowManagement:
    """The handlers; their first lines appear in the OpenAPI document."""

    def __init__(self, settings: Settings, routes: Routes) -> None:
        self._registry = registry = Registry(clients.client(settings.redis_url))
        self._routes, self.waiting = routes, WaitingRequests()
        self._control = WorkflowControl(settings, registry, self._refresh)
        self._store, self._uploads = WorkflowStore(registry.redis), Uploads.of_management(settings)

    def list_workflows(self, limit: Limit = None, next_page_token: PageToken = None) -> Response:
        """The workflows, sorted by name, in pages."""
        found = list(self._store.all().values())
        size = PAGE if limit is None or not 0 <= limit <= PAGE else limit
        first = max(0, next_page_token or 0)
        page = found[first : first + size]
        token = {"nextPageToken": str(first + size)} if first + size <= len(found) else {}
        listed = [{"workflowName": each.name, "workflowUrl": each.url} for each in page]
        return json_answer({**token, "workflows": listed})

    def describe(self, workflow_name: str, form: Drawing = None) -> Response:
        """The settings and the graph of a workflow, or a drawing of it."""
        workflow = self._store.get(workflow_name)
        if form is None:
            return json_answer([_described(workflow)])
        if form == SVG:
            return Response(svg(workflow, self._waiting(workflow)), media_type="image/svg+xml")
        return Response(mermaid(workflow, self._waiting(workflow)), media_type="text/vnd.mermaid")

    def _waiting(self, workflow: Workflow) -> dict[str, int]:
        """How many entries of each node no replica has taken."""
        models = self._registry.models()
        specs = {
            node.name: spec
            for node in workflow.nodes
            if (spec := models.specs.get(workflow.model(node.name), {}).get(node.version))
        }
        depths = depth.read(self._registry.redis, specs.values())
        return {name: depths[spec.key].waiting for name, spec in specs.items()}

    async def register(self, request: Request) -> Response:
        """Registers a workflow: starts the replicas of all its nodes, or of none."""
        if content_type(request.scope["headers"]).partition(b";")[0].strip().lower() == b"application/json":
            body = await self._uploads.read(request.scope, request.receive)
            request.scope[GIVEN] = given = json_object(body)
        else:
            given = dict(request.query_params)
        return await self.waiting.run(self._register, _parameters(given))

    def unregister(self, workflow_name: str) -> Response:
        """Stops the replicas of all nodes and removes the workflow; waiting runs are answered with 503."""
        self._control.unregister(workflow_name)
        return outcome(f'Workflow "{workflow_name}" unregistered')

    def _register(self, parameters: RegisterWorkflow) -> Response:
        workflow = self._control.register(parameters.registration())
        return outcome(f"Workflow {workflow.name} has been registered and scaled successfully.")

    def _refresh(self) -> None:
        """Makes the change visible to this gateway before the answer is sent."""
        anyio.from_thread.run(self._routes.refresh)


def _described(workflow: Workflow) -> Document:
    return {
        "workflowName": workflow.name,
        "workflowUrl": workflow.url,
        "minWorkers": workflow.settings.min_workers,
        "maxWorkers": workflow.settings.max_workers,
        "batchSize": workflow.settings.batch_size,
        "maxBatchDelay": workflow.settings.max_batch_delay,
        "workflowDag": workflow.dag_text,
        **({"choose": workflow.choose} if workflow.choose else {}),
        **({"map": workflow.map} if workflow.map else {}),
    }


def _parameters(given: Document) -> RegisterWorkflow:
    """Reads a query string or a JSON object; null means not given. Raises BadRequest."""
    try:
        return RegisterWorkflow.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"Parameter {first['loc'][0]}: {first['msg']}") from None


def _register_operation() -> Document:
    """How the register route, which reads its parameters itself, appears in the OpenAPI document."""
    schema = RegisterWorkflow.model_json_schema()
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": name == "url",
            "schema": each,
            "description": each["description"],
        }
        for name, each in schema["properties"].items()
    ]
    return {"parameters": parameters, "requestBody": {"content": {"application/json": {"schema": schema}}}}
