"""Which models have their requests queued by a script."""

from marq.admission.sequences import SequenceAdmission
from marq.admission.tickets import TicketAdmission
from marq.queue.admitting import Admission
from marq.registry.spec import ModelSpec


def admission_of(spec: ModelSpec) -> Admission | None:
    """The admission of a model version; None where a plain XADD queues its requests."""
    if spec.sequence_batching:
        return SequenceAdmission(spec)
    return TicketAdmission(spec) if spec.use_job_ticket else None
