"""The settings of a model version that concern its processes: devices, packages, sequences."""

from dataclasses import dataclass, field
from typing import Annotated

from marq.registry.model_serving_settings import ServingSettings
from marq.registry.setting import Setting


@dataclass(frozen=True)
class ReplicaSettings(ServingSettings):
    """The second part of a ModelSpec."""

    parallel_type: Annotated[
        str,
        Setting(
            "How the processes of a replica share the model.",
            replaces_replicas=True,
            yaml="parallelType",
            describe="parallelType",
        ),
    ] = ""
    parallel_level: Annotated[
        int,
        Setting(
            "Number of devices of a replica.",
            replaces_replicas=True,
            yaml="parallelLevel",
            describe="parallelLevel",
        ),
    ] = 0
    ranks: Annotated[
        int, Setting("Number of processes of a replica; 0 and 1 mean one.", replaces_replicas=True)
    ] = 0
    rank_threads: Annotated[int, Setting("OMP_NUM_THREADS of these processes.", replaces_replicas=True)] = 1
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
            "Whether requests join and leave between two steps of the handler.",
            replaces_replicas=True,
            yaml="continuousBatching",
            describe="continuousBatching",
        ),
    ] = False
    use_job_ticket: Annotated[
        bool,
        Setting(
            "Whether a request is accepted only if a replica is idle.",
            replaces_replicas=True,
            yaml="useJobTicket",
            describe="useJobTicket",
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
            "Whether a replica keeps the requests of a sequence in their order.",
            replaces_replicas=True,
            yaml="sequenceBatching",
            describe="stateful",
        ),
    ] = False
    sequence_max_idle_ms: Annotated[
        int,
        Setting(
            "Maximum idle time of a sequence in milliseconds.",
            replaces_replicas=True,
            yaml="sequenceMaxIdleMSec",
            describe="sequenceMaxIdleMSec",
        ),
    ] = 0
    sequence_timeout_ms: Annotated[
        int,
        Setting(
            "Maximum duration of a sequence in milliseconds; 0 means no limit.",
            replaces_replicas=True,
            yaml="sequenceTimeoutMSec",
            describe="sequenceTimeoutMSec",
        ),
    ] = 0
    max_num_sequence: Annotated[
        int,
        Setting(
            "Maximum number of open sequences.",
            replaces_replicas=True,
            yaml="maxNumSequence",
            describe="maxNumSequence",
        ),
    ] = 0
    max_sequence_job_queue_size: Annotated[
        int,
        Setting(
            "Maximum number of requests of a sequence that wait.",
            replaces_replicas=True,
            yaml="maxSequenceJobQueueSize",
            describe="maxSequenceJobQueueSize",
        ),
    ] = 0
    sequence_drain_s: Annotated[
        int,
        Setting(
            "Time in seconds for which a replica that is replaced goes on with its open sequences.",
            replaces_replicas=False,
            yaml="sequenceDrainSec",
            torchserve=False,
            least=0,
        ),
    ] = 30
    loaded_at_startup: Annotated[
        bool,
        Setting(
            "Whether the server loaded the model when it started.",
            replaces_replicas=False,
            describe="loadedAtStartup",
        ),
    ] = False
    started_by: Annotated[
        list[str],
        Setting(
            "Names of the nodes whose servers were started with the model.",
            replaces_replicas=False,
            kept_on_join=True,
        ),
    ] = field(default_factory=list)
    requirements: Annotated[
        str, Setting("File in the archive whose packages are installed.", replaces_replicas=True)
    ] = ""
    workflow: Annotated[
        str,
        Setting("Workflow that the model is a node of; empty for most models.", replaces_replicas=False),
    ] = ""
