"""The settings of a model version that concern its requests: handler, number of replicas, batches, limits."""

from dataclasses import dataclass, field
from typing import Annotated

from marq.registry.setting import Setting

MOST_WORKERS = 10_000  # of one model version: nodes look at each every second
MOST_ROWS = 10_000  # of one batch: replicas set memory aside for each


@dataclass(frozen=True)
class ServingSettings:
    """The first part of a ModelSpec."""

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
            "or the batching delay is over (fixed), or by a plugin's policy.",
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
    webhook_url: Annotated[
        str,
        Setting(
            "URL that gets a message at the end of each job that names no other.",
            replaces_replicas=False,
            yaml="webhookUrl",
        ),
    ] = ""
    caller_tag: Annotated[
        str,
        Setting(
            "Name of the tag `NAME=CALLER` that names the caller of a job: callers share the lanes.",
            replaces_replicas=False,
            yaml="callerTag",
        ),
    ] = ""
    caller_weights: Annotated[
        str,
        Setting(
            "Shares of callers, `CALLER=WEIGHT` with commas between them; others have the weight 1.",
            replaces_replicas=False,
            yaml="callerWeights",
        ),
    ] = ""
    caller_quota: Annotated[
        int,
        Setting(
            "Maximum number of unfinished jobs of each caller; 0 means no limit.",
            replaces_replicas=False,
            yaml="callerQuota",
        ),
    ] = 0
    config_notices: Annotated[
        list[str],
        Setting(
            "What of model-config.yaml has no effect, or another one.",
            replaces_replicas=False,
            kept_on_join=True,
        ),
    ] = field(default_factory=list)
    generation: Annotated[
        int,
        Setting(
            "Number of reloads; replicas of an earlier generation are replaced one by one.",
            replaces_replicas=False,
            kept_on_join=True,
        ),
    ] = 0
