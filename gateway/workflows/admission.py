"""Whether a run of a workflow can be taken."""

from gateway.routing.routes import Route, Routes
from marq.errors import ModelNotFound, ModelVersionNotFound, ServiceUnavailable
from marq.workflows.spec import Workflow


class Admission:
    """Judges by the routes of the nodes' models. Returns that of the start node, which counts the run."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def check(self, workflow: Workflow) -> Route:
        """For a client that waits. Raises ServiceUnavailable if a node cannot run, or its queue is full."""
        routes = self._find(workflow)
        start = routes[0]
        for route in routes:
            route.check()
            if route is not start and not route.backlog.has_room(0):
                route.backlog.admit(0)  # raises with the reason
        return start

    def check_job(self, workflow: Workflow) -> Route:
        """For a job, which waits for replicas. Raises ServiceUnavailable if a node's model is gone."""
        return self._find(workflow)[0]

    def _find(self, workflow: Workflow) -> list[Route]:
        """Those of all nodes, in their order."""
        try:
            return [self._routes.find(workflow.model(node.name), node.version) for node in workflow.nodes]
        except (ModelNotFound, ModelVersionNotFound) as error:
            raise ServiceUnavailable(f"Workflow {workflow.name} cannot run: {error.message}") from None
