"""Whether a run of a workflow can be taken."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq.errors import ModelNotFound, ModelVersionNotFound, ServiceUnavailable
from marq.workflows.spec import Workflow


@dataclass(frozen=True)
class Nodes:
    """The routes of the nodes of a workflow."""

    routes: Sequence[Route]  # each after those of its parents

    @property
    def start(self) -> Route:
        """That of the start node, which counts the run."""
        return self.routes[0]

    @property
    def share_files(self) -> bool:
        """Whether the replicas of all nodes can read this gateway's files."""
        return all(route.shares_files for route in self.routes)

    @property
    def keep_files(self) -> bool:
        """The same of the files of jobs."""
        return all(route.keeps_files for route in self.routes)


class Admission:
    """Judges by the routes of the nodes' models."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def check(self, workflow: Workflow) -> Nodes:
        """For a client that waits. Raises ServiceUnavailable if a node cannot run, or its queue is full."""
        nodes = self._find(workflow)
        for route in nodes.routes:
            route.check()
            if route is not nodes.start and not route.backlog.has_room(0):
                route.backlog.admit(0)  # raises with the reason
        return nodes

    def check_job(self, workflow: Workflow) -> Nodes:
        """For a job, which waits for replicas. Raises ServiceUnavailable if a node's model is gone."""
        return self._find(workflow)

    def _find(self, workflow: Workflow) -> Nodes:
        find = self._routes.find
        try:
            return Nodes([find(workflow.model(node.name), node.version) for node in workflow.nodes])
        except (ModelNotFound, ModelVersionNotFound) as error:
            raise ServiceUnavailable(f"Workflow {workflow.name} cannot run: {error.message}") from None
