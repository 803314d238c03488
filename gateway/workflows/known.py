"""The registered workflows, as a gateway process knows them."""

from urllib.parse import quote

from gateway.inference.urls import WORKFLOW
from marq import keys
from marq.errors import WorkflowNotFound
from marq.queue.broker import Broker
from marq.workflows.spec import Workflow


class KnownWorkflows:
    """Read together with the registry. A Redis that has lost them gets them again."""

    def __init__(self) -> None:
        self._stored: dict[bytes, bytes] = {}  # name -> JSON
        self._by_name: dict[str, Workflow] = {}
        self.urls: dict[bytes, Workflow] = {}  # "/wfpredict/workflow" -> workflow
        self._mark = b""  # of the Redis that they were read from

    async def refresh(self, broker: Broker, mark: bytes) -> None:
        """Raises as Broker.execute."""
        flat = await broker.execute("HGETALL", keys.WORKFLOWS)
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        if self._mark and mark != self._mark:
            for name in self._stored.keys() - stored.keys():
                await broker.execute("HSETNX", keys.WORKFLOWS, name, self._stored[name])
                stored[name] = self._stored[name]
        self._mark = mark
        if stored != self._stored:
            self._by_name = {name.decode(): Workflow.from_json(text) for name, text in stored.items()}
            self.urls = {f"/{WORKFLOW}/{quote(name)}".encode(): each for name, each in self._by_name.items()}
            self._stored = stored

    @property
    def names(self) -> list[str]:
        """Those of all workflows."""
        return list(self._by_name)

    def get(self, name: str) -> Workflow:
        """Raises WorkflowNotFound."""
        try:
            return self._by_name[name]
        except KeyError:
            raise WorkflowNotFound(f"Workflow not found: {name}") from None
