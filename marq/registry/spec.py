"""The settings of one model version, each with all facts about it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated

from marq.registry.setting import Setting, settings_of

MOST_WORKERS = 10_000  # of one model version: nodes look at each every second
MOST_ROWS = 10_000  # of one batch: replicas set memory aside for each


@dataclass(frozen=True)
class ModelSpec:
    """One registered model version, with every setting resolved.

    A new setting needs only a field here, and a rule in archive/model_config.py if that file may set it.
    Describe shows the fields in this order, which is TorchServe's.
    """

    name: Annotated[str, Setting("Name of the model.", replaces_replicas=True, describe="modelName")]
    version: Annotated[str, Setting("Version of the model.", replaces_replicas=True, describe="modelVersion")]
    url: Annotated[
        str, Setting("URL with which the model was registered.", replaces_replicas=True, describe="modelUrl")
    ]
    archive: Annotated[
        str, Setting("Path of the archive on hosts that run the model.", replaces_replicas=True)
    ]
    handler: Annotated[str, Setting("File, module or class that handles batches.", replaces_replicas=True)]
    runtime: Annotated[
        str, Setting("Python interpreter of the replicas.", replaces_replicas=True, describe="runtime")
    ] = "python"
    envelope: Annotated[
        str, Setting("Format that wraps request and response bodies.", replaces_replicas=True)
    ] = ""
    min_workers: Annotated[
        int,
        Setting(
            "Minimum number of replicas.",
            replaces_replicas=False,
            yaml="minWorkers",
            describe="minWorkers",
            least=0,
            most=MOST_WORKERS,
            kept_on_join=True,
        ),
    ] = 0
    max_workers: Annotated[
        int,
        Setting(
            "Maximum number of replicas.",
            replaces_replicas=False,
            yaml="maxWorkers",
            describe="maxWorkers",
            least=0,
            most=MOST_WORKERS,
            kept_on_join=True,
        ),
    ] = 0
    batch_size: Annotated[
        int,
        Setting(
            "Maximum batch size.",
            replaces_replicas=True,
            yaml="batchSize",
            in_models_json=True,
            api="batch_size",
            describe="batchSize",
            most=MOST_ROWS,
            unset=-1,
        ),
    ] = 1
    max_batch_delay_ms: Annotated[
        int,
        Setting(
            "Maximum batching delay in milliseconds.",
            replaces_replicas=True,
            yaml="maxBatchDelay",
            in_models_json=True,
            api="max_batch_delay",
            describe="maxBatchDelay",
            least=0,
            unset=-100,
        ),
    ] = 100
    batching: Annotated[
        str,
        Setting(
            "When a batch starts: as soon as a replica is idle (adaptive), or when it is full "
            "or the batching delay is over (fixed).",
            replaces_replicas=True,
            yaml="batching",
        ),
    ] = "adaptive"
    async_communication: Annotated[
        bool,
        Setting(
            "Whether the handler is a coroutine function.", replaces_replicas=True, yaml="asyncCommunication"
        ),
    ] = False
    response_timeout_s: Annotated[
        int,
        Setting(
            "Maximum time to process one batch, in seconds.",
            replaces_replicas=True,
            yaml="responseTimeout",
            in_models_json=True,
            server="default_response_timeout",
            api="response_timeout",
            describe="responseTimeout",
            unset=-1,
        ),
    ] = 120
    startup_timeout_s: Annotated[
        int,
        Setting(
            "Maximum time for a replica to start, in seconds.",
            replaces_replicas=True,
            yaml="startupTimeout",
            in_models_json=True,
            server="default_startup_timeout",
            api="startup_timeout",
            describe="startupTimeout",
            unset=-1,
        ),
    ] = 120
    max_retry_timeout_s: Annotated[
        int,
        Setting(
            "Time in seconds for which failing replicas are restarted.",
            replaces_replicas=True,
            yaml="maxRetryTimeoutInSec",
            in_models_json=True,
            describe="maxRetryTimeoutInSec",
        ),
    ] = 300
    client_timeout_ms: Annotated[
        int,
        Setting(
            "Maximum time until a request is answered, in milliseconds; 0 means no limit.",
            replaces_replicas=True,
            yaml="clientTimeoutInMills",
            in_models_json=True,
            describe="clientTimeoutInMills",
        ),
    ] = 0
    job_queue_size: Annotated[
        int,
        Setting(
            "Maximum number of queued requests.",
            replaces_replicas=False,
            yaml="jobQueueSize",
            in_models_json=True,
            server="job_queue_size",
        ),
    ] = 100
    max_attempts: Annotated[
        int,
        Setting(
            "Maximum attempts per request when its replica crashes.",
            replaces_replicas=False,
            yaml="maxAttempts",
            in_models_json=True,
            api="max_attempts",
            changeable=True,
            describe="maxAttempts",
            torchserve=False,
        ),
    ] = 3
    max_requests_per_replica: Annotated[
        int,
        Setting(
            "Number of requests after which a replica is replaced; 0 means never.",
            replaces_replicas=True,
            yaml="maxRequestsPerReplica",
        ),
    ] = 0
    max_replica_memory_mb: Annotated[
        int,
        Setting(
            "Memory in MB above which a replica is replaced; 0 means never.",
            replaces_replicas=True,
            yaml="maxReplicaMemoryMB",
        ),
    ] = 0
    generation: Annotated[
        int,
        Setting(
            "Number of reloads; replicas of an earlier generation are replaced one by one.",
            replaces_replicas=False,
            kept_on_join=True,
        ),
    ] = 0
    parallel_type: Annotated[
        str,
        Setting(
            "How the processes of a replica share the model.",
            replaces_replicas=True,
            yaml="parallelType",
            describe="parallelType",
            has_effect=False,
        ),
    ] = ""
    parallel_level: Annotated[
        int,
        Setting(
            "Number of processes of a replica.",
            replaces_replicas=True,
            yaml="parallelLevel",
            describe="parallelLevel",
            has_effect=False,
        ),
    ] = 0
    device_type: Annotated[
        str,
        Setting(
            "Device on which the replicas run.",
            replaces_replicas=True,
            yaml="deviceType",
            describe="deviceType",
        ),
    ] = ""
    device_ids: Annotated[
        list[int],
        Setting(
            "Numbers of the GPUs that the replicas use.",
            replaces_replicas=True,
            yaml="deviceIds",
            describe="deviceIds",
        ),
    ] = field(default_factory=list)
    continuous_batching: Annotated[
        bool,
        Setting(
            "Whether continuous batching is configured.",
            replaces_replicas=False,
            yaml="continuousBatching",
            describe="continuousBatching",
            has_effect=False,
        ),
    ] = False
    use_job_ticket: Annotated[
        bool,
        Setting(
            "Whether job tickets are configured.",
            replaces_replicas=False,
            yaml="useJobTicket",
            describe="useJobTicket",
            has_effect=False,
        ),
    ] = False
    use_venv: Annotated[
        bool,
        Setting(
            "Whether replicas run in a virtual environment of their own.",
            replaces_replicas=True,
            yaml="useVenv",
            describe="useVenv",
        ),
    ] = False
    sequence_batching: Annotated[
        bool,
        Setting(
            "Whether sequence batching is configured.",
            replaces_replicas=False,
            yaml="sequenceBatching",
            describe="stateful",
            has_effect=False,
        ),
    ] = False
    sequence_max_idle_ms: Annotated[
        int,
        Setting(
            "Maximum idle time of a sequence in milliseconds.",
            replaces_replicas=False,
            yaml="sequenceMaxIdleMSec",
            describe="sequenceMaxIdleMSec",
            has_effect=False,
        ),
    ] = 0
    sequence_timeout_ms: Annotated[
        int,
        Setting(
            "Maximum duration of a sequence in milliseconds; 0 means no limit.",
            replaces_replicas=False,
            yaml="sequenceTimeoutMSec",
            describe="sequenceTimeoutMSec",
            has_effect=False,
        ),
    ] = 0
    max_num_sequence: Annotated[
        int,
        Setting(
            "Maximum number of sequences of a replica.",
            replaces_replicas=False,
            yaml="maxNumSequence",
            describe="maxNumSequence",
            has_effect=False,
        ),
    ] = 0
    max_sequence_job_queue_size: Annotated[
        int,
        Setting(
            "Maximum number of queued requests of a sequence.",
            replaces_replicas=False,
            yaml="maxSequenceJobQueueSize",
            describe="maxSequenceJobQueueSize",
            has_effect=False,
        ),
    ] = 0
    loaded_at_startup: Annotated[
        bool,
        Setting(
            "Whether the server loaded the model when it started.",
            replaces_replicas=False,
            describe="loadedAtStartup",
        ),
    ] = False
    requirements: Annotated[
        str, Setting("File in the archive whose packages are installed.", replaces_replicas=True)
    ] = ""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def has_dependencies(self) -> bool:
        """Whether something has to be installed before replicas can start."""
        return bool(self.requirements) or self.use_venv

    def needs_new_replicas(self, running: "ModelSpec") -> bool:
        """Whether replicas that run with these other settings must be replaced at once."""
        changed = (each.name for each in SETTINGS if each.replaces_replicas)
        return any(getattr(self, name) != getattr(running, name) for name in changed)

    def is_configured_like(self, stored: "ModelSpec") -> bool:
        """Whether the settings are the same, except those that a joining server keeps."""
        configured = (each.name for each in SETTINGS if not each.kept_on_join)
        return all(getattr(self, name) == getattr(stored, name) for name in configured)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> "ModelSpec":
        """Reads a spec; keys that this version of marq does not know are ignored."""
        known = {each.name for each in SETTINGS}
        return cls(**{k: v for k, v in json.loads(text).items() if k in known})


SETTINGS = settings_of(ModelSpec)


def cannot_load(spec: ModelSpec, reason: str) -> str:
    """The message for clients of a model whose replicas crash before, or soon after, they are ready."""
    lines = [line for line in reason.splitlines() if line.strip()]
    return f'Model "{spec.name}" Version {spec.version} cannot be loaded: {lines[-1] if lines else "unknown"}'
