"""The registered workflows, in Redis."""

from marq import keys
from marq.connections.commands import RedisClient
from marq.errors import Conflict, WorkflowNotFound
from marq.registry import changes
from marq.workflows.spec import Workflow


class WorkflowStore:
    """Reads and changes them; every change is announced on the management stream. Raises redis.RedisError."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client

    def all(self) -> dict[str, Workflow]:
        """By name, sorted."""
        stored = self._redis.hgetall(keys.WORKFLOWS)
        return {name.decode(): Workflow.from_json(text) for name, text in sorted(stored.items())}

    def get(self, name: str) -> Workflow:
        """Raises WorkflowNotFound."""
        if (text := self._redis.hget(keys.WORKFLOWS, name)) is None:
            raise WorkflowNotFound(f"Workflow not found: {name}")
        return Workflow.from_json(text)

    def check_free(self, name: str) -> None:
        """Raises Conflict if a workflow of that name is registered."""
        if self._redis.hget(keys.WORKFLOWS, name) is not None:
            raise Conflict(f"Workflow {name} is already registered.")

    def add(self, workflow: Workflow) -> float:
        """Returns the moment of the change, as `changes.announce` does. Raises Conflict."""
        if not self._redis.hsetnx(keys.WORKFLOWS, workflow.name, workflow.to_json()):
            raise Conflict(f"Workflow {workflow.name} is already registered.")
        return self._announce("register-workflow", workflow.name)

    def remove(self, name: str) -> float:
        """Returns the moment of the change. Raises WorkflowNotFound."""
        if not self._redis.hdel(keys.WORKFLOWS, name):
            raise WorkflowNotFound(f"Workflow not found: {name}")
        return self._announce("unregister-workflow", name)

    def _announce(self, action: str, name: str) -> float:
        return changes.announce(self._redis, {"action": action, "workflow": name})
