"""Which models have their requests queued by a script."""

from marq.admission.sequences import SequenceAdmission
from marq.queue.broker import Admission
from marq.registry.spec import ModelSpec


def admission_of(spec: ModelSpec) -> Admission | None:
    """The admission of a model version; None where a plain XADD queues its requests."""
    return SequenceAdmission(spec) if spec.sequence_batching else None
