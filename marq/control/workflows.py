"""How a workflow is registered and unregistered: its nodes as models of their own, all of them or none."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError, ArchiveExists, ArchiveNotFound, DownloadFailed
from archive.store.model_store import ModelStore
from archive.workflow import describe_workflow
from marq import errors
from marq.control.readiness import (
    start_failed,
    wait_for_dependencies,
    wait_for_gateways,
    wait_for_workers,
    wait_until_stopped,
)
from marq.control.registration import Registration, model_store, resolve
from marq.control.removal import clear, remove_download
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings
from marq.workflows.spec import Node, Workflow, workflow_of
from marq.workflows.store import WorkflowStore

UNDO_S = 10.0
DEFAULT_TIMEOUT_S = 120


@dataclass(frozen=True)
class WorkflowRegistration:
    """A client's request to register a workflow."""

    url: str
    name: str = ""  # empty: the manifest's
    response_timeout_s: int = DEFAULT_TIMEOUT_S
    startup_timeout_s: int = DEFAULT_TIMEOUT_S
    s3_sse_kms: bool = False


def workflow_store(settings: Settings) -> ModelStore:
    """The store of workflow archives, with the same rules for URLs as for models."""
    store = model_store(settings)
    if settings.workflow_store is not None:
        store.root = settings.workflow_store
    return store


class WorkflowControl:
    """Changes of the registered workflows. Its calls wait for replicas; they raise ServiceError."""

    def __init__(self, settings: Settings, registry: Registry, refresh: Callable[[], None]) -> None:
        """`refresh` makes a change visible to the caller's own process."""
        self._settings, self._registry, self._refresh = settings, registry, refresh
        self._store = WorkflowStore(registry.redis)

    def register(self, registration: WorkflowRegistration) -> Workflow:
        """The name is taken first: after a crash in between, the workflow can be unregistered."""
        workflow = self._resolve(registration)
        self._store.check_free(workflow.name)
        specs = self._specs(workflow, registration)
        workflow = workflow.with_versions({node: spec.version for node, spec in specs.items()})
        registered = self._store.add(workflow)
        failures = self._start([specs[node.name] for node in workflow.nodes if not node.model])
        if failures:
            self._store.remove(workflow.name)
            raise _failed(workflow, failures)
        wait_for_gateways(self._registry, registered)
        return workflow

    def unregister(self, name: str) -> None:
        """Its queued runs are answered with 503."""
        workflow = self._store.get(name)
        wait_for_gateways(self._registry, self._store.remove(name))
        models = self._registry.models()
        own = [node for node in workflow.nodes if not node.model]
        found = [models.specs.get(workflow.model(node.name), {}).get(node.version) for node in own]
        failures = self._remove([spec for spec in found if spec], self._settings.unregister_model_timeout)
        self._remove_download(workflow.url)
        if failures:
            details = ", ".join(failures)
            raise errors.ServiceError(f"Error while unregistering the workflow {name}. Details: [{details}]")

    def _resolve(self, registration: WorkflowRegistration) -> Workflow:
        url = registration.url
        try:
            archive = describe_workflow(self._locate(registration))
            return workflow_of(archive, url, registration.name)
        except ArchiveError as error:
            self._remove_download(url)
            raise _as_service_error(url, error) from error
        except errors.ServiceError:
            self._remove_download(url)
            raise
        except OSError as error:
            raise errors.ServiceError(f"Failed to save workflow: {url}\n{error}") from error

    def _locate(self, registration: WorkflowRegistration) -> Path:
        store = workflow_store(self._settings)
        if store.root is None:
            raise errors.InvalidWorkflow("Workflow store has not been configured.")
        try:
            path = store.resolve(registration.url, s3_sse_kms=registration.s3_sse_kms)
        except ArchiveExists as error:
            raise errors.ServiceError(str(error)) from error  # not downloaded: not to be removed either
        if not path.is_file():
            raise ArchiveNotFound(f"Workflow not found in workflow store: {registration.url}")
        return path

    def _specs(self, workflow: Workflow, registration: WorkflowRegistration) -> dict[str, ModelSpec]:
        """The models of the nodes, by node. Raises WorkflowFailed if one of them is not there."""
        specs: dict[str, ModelSpec] = {}
        failures: list[str] = []
        for node in workflow.nodes:
            try:
                specs[node.name] = self._spec(workflow, node, registration)
            except errors.ServiceError as error:
                failures.append(_node_failed(workflow.model(node.name), error))
        if failures:
            self._remove_downloads([spec for spec in specs.values() if spec.workflow])
            raise _failed(workflow, failures)
        return specs

    def _spec(self, workflow: Workflow, node: Node, registration: WorkflowRegistration) -> ModelSpec:
        name, given = workflow.model(node.name), node.settings
        if node.model:
            return self._registry.models().get(node.model, node.version or None)
        settings: dict[str, Any] = {
            "batch_size": given.batch_size,
            "max_batch_delay_ms": given.max_batch_delay,
            "response_timeout_s": registration.response_timeout_s,
            "startup_timeout_s": registration.startup_timeout_s,
        }
        if node.url is not None:
            wanted = Registration(
                node.url, model_name=name, initial_workers=given.max_workers, settings=settings
            )
            return replace(resolve(self._settings, wanted), workflow=workflow.name)
        return ModelSpec(
            name=name, version=node.version, url="", archive=workflow.archive,
            handler=f"{workflow.handler}:{node.name}", min_workers=given.max_workers,
            max_workers=given.max_workers, job_queue_size=self._settings.job_queue_size,
            workflow=workflow.name, **settings,
        )  # fmt: skip

    def _start(self, specs: list[ModelSpec]) -> list[str]:
        """Registers the models and waits for their replicas; why that failed. Then none is registered."""
        began = self._registry.now()
        done: list[ModelSpec] = []
        failures: list[str] = []
        try:
            for spec in specs:
                try:
                    self._registry.register(spec)
                    done.append(spec)
                except errors.ServiceError as error:
                    failures.append(_node_failed(spec.name, error))
            self._refresh()
            for spec in done if not failures else ():
                try:
                    self._wait(spec, began)
                except errors.ServiceError as error:
                    failures.append(error.message)
        finally:
            if failures or len(done) < len(specs):
                failures += self._remove(done, UNDO_S)
                self._remove_downloads(specs)
        return failures

    def _wait(self, spec: ModelSpec, began: float) -> None:
        """Raises ServiceError if its replicas cannot be started."""
        if spec.has_dependencies and (reason := wait_for_dependencies(self._registry, spec, began)):
            raise errors.ModelFailed(reason)
        _, reason = wait_for_workers(self._registry, spec)
        if reason:
            raise start_failed(spec.name, spec.version, reason)

    def _remove(self, specs: list[ModelSpec], timeout_s: float) -> list[str]:
        """Unregisters models; why that failed."""
        failures: list[str] = []
        removed: list[tuple[ModelSpec, float]] = []
        for spec in specs:
            try:
                removed.append((spec, self._registry.unregister(spec)))
            except errors.ServiceError as error:
                failures.append(f"Error while unregistering workflow node {spec.name}: {error.message}")
        self._refresh()
        for spec, moment in removed:
            try:
                wait_until_stopped(self._registry, spec, moment, timeout_s)
            except errors.RequestTimeout as error:
                failures.append(f"Error while unregistering workflow node {spec.name}: {error.message}")
            clear(self._registry, spec, self._settings.job_result_ttl_s)
        self._remove_downloads(spec for spec, _ in removed)
        return failures

    def _remove_downloads(self, specs: Iterable[ModelSpec]) -> None:
        for spec in specs:
            if spec.url:
                remove_download(model_store(self._settings), self._registry, spec)

    def _remove_download(self, url: str) -> None:
        with contextlib.suppress(OSError):
            workflow_store(self._settings).remove_download(url)


def _failed(workflow: Workflow, failures: Iterable[str]) -> errors.WorkflowFailed:
    text = f"Workflow {workflow.name} has failed to register. Failures: [{', '.join(failures)}]"
    return errors.WorkflowFailed(text)


def _node_failed(model: str, error: errors.ServiceError) -> str:
    return f"Workflow Node {model} failed to register. Details: {error.message}"


def _as_service_error(url: str, error: ArchiveError) -> errors.ServiceError:
    """TorchServe's text first, the cause on the next line."""
    text = "\n".join(filter(None, (str(error), error.reason)))
    if isinstance(error, DownloadFailed):
        return errors.DownloadFailed(text)
    if not isinstance(error, ArchiveNotFound):
        return errors.InvalidWorkflow(text)
    missing = f"Workflow not found in workflow store: {url}"
    return errors.WorkflowNotFound(missing if "not found" in text else text)
