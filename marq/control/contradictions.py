"""Settings of a model that exclude each other at a size, or have values that cannot be used.

`registry/config/wrong_keys.py` has those that a model-config.yaml alone decides.
"""

from dataclasses import replace

from marq.errors import BadRequest, InvalidModel
from marq.jobs.options import TAG
from marq.registry.config.wrong_keys import excludes
from marq.registry.spec import ModelSpec
from marq.webhooks.urls import check_url


def contradiction(spec: ModelSpec) -> str:
    """The error text for settings that contradict each other, with the cure; empty if none do."""
    return _of_rest(spec) or _of_webhook(spec) or _of_callers(spec)


def checked(spec: ModelSpec) -> ModelSpec:
    """The same version. Raises InvalidModel if its settings contradict each other."""
    if fault := contradiction(spec):
        raise InvalidModel(fault)
    return spec


def check_size(spec: ModelSpec, min_workers: int, max_workers: int) -> None:
    """Raises BadRequest for a size with which the settings of a registered version would exclude each other.

    A version whose settings do so already may have any size.
    """
    sized = replace(spec, min_workers=min_workers, max_workers=max_workers)
    if (fault := contradiction(sized)) and not contradiction(spec):
        raise BadRequest(
            f"{min_workers} to {max_workers} replicas do not go with the settings of {spec.name}: {fault}"
        )


def _of_rest(spec: ModelSpec) -> str:
    if spec.use_job_ticket and spec.may_rest:
        return excludes("useJobTicket", "idleTimeoutSec", "a request is taken only by an idle replica")
    if spec.sequence_batching and spec.may_rest and 1000 * spec.idle_timeout_s < spec.sequence_max_idle_ms:
        return (
            "idleTimeoutSec is below sequenceMaxIdleMSec: the replica of an open sequence would stop. "
            f"Set idleTimeoutSec to {-(-spec.sequence_max_idle_ms // 1000)} at least."
        )
    return ""


def _of_webhook(spec: ModelSpec) -> str:
    try:
        if spec.webhook_url:
            check_url(spec.webhook_url)
    except BadRequest as error:
        return f"webhookUrl: {error.message}"
    return ""


def _of_callers(spec: ModelSpec) -> str:
    if not spec.caller_tag:
        needing = "callerWeights" if spec.caller_weights else "callerQuota" if spec.caller_quota else ""
        return (
            needing and f"{needing} has no effect without callerTag, the tag that names the caller of a job."
        )
    if not TAG.fullmatch(f"{spec.caller_tag}=x") or "=" in spec.caller_tag:
        return f"callerTag must be the name of a tag, such as owner, not {spec.caller_tag!r:.100}."
    try:
        spec.caller_rules  # noqa: B018 - raises
    except ValueError:
        return f"callerWeights must be like alice=3,bob=0.5, not {spec.caller_weights!r:.100}."
    return ""
