"""Job tickets: a prediction is accepted only if a replica is idle, counted over all gateways."""

from collections.abc import Sequence

from marq import keys
from marq.connections.scripts import read
from marq.connections.urls import Command
from marq.errors import QueueFull, ServiceError
from marq.queue.entries import EntryFields
from marq.registry.spec import ModelSpec

TICKET = read("marq.admission", "sequence", "ticket")


class TicketAdmission:
    """Queues the predictions of one model version while replicas are idle."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._keys = keys.seats(spec.name, spec.version), keys.lanes(spec.name, spec.version)

    def call(self, lane: bytes, fields: EntryFields, entry: Sequence[bytes]) -> Command:  # noqa: ARG002
        """The script that queues a request; `entry`: the fields of its entry."""
        seats, lanes = self._keys
        script_keys: list[str | bytes] = [seats, lane, *lanes]
        return TICKET.call(script_keys, keys.GROUP, *entry)

    def refusal(self, fields: EntryFields, limit: bytes, ready: int) -> ServiceError:  # noqa: ARG002
        """Why the script did not queue a request."""
        return QueueFull(
            f'Model "{self._spec.name}" version {self._spec.version}: none of its {ready} ready replicas is '
            "idle, and useJobTicket lets no request wait."
        )
