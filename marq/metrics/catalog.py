"""Every metric of marq: name, type, unit, labels, buckets. TorchServe's are in `metrics.yaml`."""

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
KINDS = (COUNTER, GAUGE, HISTOGRAM)
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
SECONDS = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


@dataclass(frozen=True)
class Metric:
    """One metric. `unit` is the text of `metrics.yaml`; marq's own have theirs in the name."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str = ""
    unit: str = ""
    buckets: tuple[float, ...] = DEFAULT_BUCKETS


VERSION = ("model", "version")

QUEUE_DEPTH = Metric("marq_queue_depth", GAUGE, (*VERSION, "lane"), "Requests that no replica has taken yet.")
QUEUE_OLDEST_AGE = Metric(
    "marq_queue_oldest_age_seconds", GAUGE, (*VERSION, "lane"), "Age of the oldest of them."
)
QUEUE_WAIT = Metric(
    "marq_queue_wait_seconds",
    HISTOGRAM,
    (*VERSION, "kind"),
    "From a request's arrival in Redis until its batch began.",
    buckets=SECONDS,
)
BATCH_SIZE = Metric("marq_batch_size", HISTOGRAM, VERSION, "Rows of one call of the handler.", buckets=ROWS)
BATCH_WAIT = Metric(
    "marq_batch_wait_seconds",
    HISTOGRAM,
    VERSION,
    "How long a replica that had rows waited for more.",
    buckets=SECONDS,
)
HANDLER = Metric(
    "marq_handler_seconds", HISTOGRAM, VERSION, "Duration of one call of the handler.", buckets=SECONDS
)
REQUEST = Metric(
    "marq_request_seconds",
    HISTOGRAM,
    (*VERSION, "kind"),
    "From a request's arrival at the gateway until its answer.",
    buckets=SECONDS,
)
REQUESTS = Metric("marq_requests_total", COUNTER, (*VERSION, "kind", "status"), "Answered HTTP requests.")
REPLICAS = Metric("marq_replicas", GAUGE, (*VERSION, "state"), "Replicas of pools that are alive.")
REPLICAS_WANTED = Metric(
    "marq_replicas_wanted",
    GAUGE,
    VERSION,
    "Replicas that there are to be: minWorkers, or as many as the queue needs.",
)
REPLICA_RESTARTS = Metric(
    "marq_replica_restarts_total", COUNTER, VERSION, "Replicas that ended by themselves or were killed."
)
REDELIVERIES = Metric(
    "marq_redeliveries_total",
    COUNTER,
    VERSION,
    "Requests put back because the replica that had taken them ended.",
)
DEAD_LETTERS = Metric("marq_dead_letters", GAUGE, ("model",), "Entries in the dead letters.")
DEAD_LETTERS_TOTAL = Metric(
    "marq_dead_letters_total", COUNTER, ("model",), "Entries that became dead letters."
)
REDIS_ROUND_TRIP = Metric(
    "marq_redis_round_trip_seconds",
    HISTOGRAM,
    ("process",),
    "A PING to Redis and its answer, once a second.",
    buckets=SECONDS,
)
GPU_MEMORY = Metric(
    "marq_gpu_memory_bytes", GAUGE, ("host", "gpu", "state"), "A GPU's memory, used and free."
)

OWN = {
    metric.name: metric
    for metric in (
        QUEUE_DEPTH,
        QUEUE_OLDEST_AGE,
        QUEUE_WAIT,
        BATCH_SIZE,
        BATCH_WAIT,
        HANDLER,
        REQUEST,
        REQUESTS,
        REPLICAS,
        REPLICAS_WANTED,
        REPLICA_RESTARTS,
        REDELIVERIES,
        DEAD_LETTERS,
        DEAD_LETTERS_TOTAL,
        REDIS_ROUND_TRIP,
        GPU_MEMORY,
    )
}
RESERVED = "marq_"  # handlers' metrics may not begin so
