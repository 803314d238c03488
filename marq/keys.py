"""Every Redis key of marq, in one place.

All keys of a model carry the hash tag `{model}`, so that whatever one Lua script touches lies in one slot
of a Redis Cluster. Versions are free text and therefore always come last.
"""

PREFIX = "marq:"
GROUP = "replicas"

HIGH, NORMAL, LOW = "high", "normal", "low"
LANES = (HIGH, NORMAL, LOW)
SEATS = "seats"  # where lanes are counted: those of all replicas with a seat
FRONT = "front"  # entries that a lost replica held: read before every lane

REGISTRY = PREFIX + "registry"  # hash: "model/version" -> ModelSpec as JSON
WORKFLOWS = PREFIX + "workflows"  # hash: name -> Workflow as JSON
DEFAULT_VERSIONS = PREFIX + "registry:defaults"  # hash: model -> default version
SIZES = PREFIX + "registry:sizes"  # hash: "model/version" -> the last decision on its size, as JSON
AUTOSCALER = PREFIX + "autoscaler"  # the lease (string with a time-out) of the node that decides on sizes
MARK = PREFIX + "mark"  # string: random, written once; a Redis without it, or with another, is an empty one
MANAGEMENT = (
    PREFIX + "management"
)  # stream: each change of the registry and its author; wakes nodes and gateways
NODES = PREFIX + "nodes"  # sorted set: node -> last heartbeat, unix s
DEVICES = PREFIX + "nodes:devices"  # hash: node -> the devices of its host, as JSON
GATEWAYS = PREFIX + "gateways"  # sorted set: gateway process -> when it last read registry and tokens, unix s
TOKENS = PREFIX + "tokens"  # hash: plane -> token, plane + ":expires" -> unix ms
CELERY = PREFIX + "celery:"  # prefix of all that Celery and kombu write
METRICS = PREFIX + "metrics"  # sorted set: key of a hash of metrics of no model -> last written, unix s


def celery_queue(model: str, version: str) -> str:
    """The name of the Celery queue that the pools of a version read."""
    return f"{model}.{version}"


def celery_keys(model: str, version: str) -> tuple[str, ...]:
    """The keys that kombu writes for that queue and leaves behind: the queue and its bindings."""
    queue = celery_queue(model, version)
    return tuple(CELERY + kind + queue for kind in ("", "_kombu.binding.", "_kombu.binding_permanent."))


OPENAI = PREFIX + "openai:{batches}:"  # prefix of all that OpenAI's Batch API writes but its jobs
BATCH_FILES = OPENAI + "files"  # sorted set: file id -> created, unix ms
BATCHES = OPENAI + "batches"  # sorted set: batch id -> created, unix ms
OPEN_BATCHES = OPENAI + "open"  # the same, of the batches that have not ended


def batch_file(file_id: str) -> str:
    """The record (string with a time-out) of one file, as JSON."""
    return f"{OPENAI}file:{file_id}"


def batch(batch_id: str) -> str:
    """The record (hash of JSON values, expires) of one batch."""
    return f"{OPENAI}batch:{batch_id}"


def batch_owner(batch_id: str) -> str:
    """The lease (string with a time-out) of a batch; its value is the gateway that works on it."""
    return f"{OPENAI}owner:{batch_id}"


def bridge(queue: str, name: str) -> str:
    """A key of the bridge of a Celery queue: `waiting`, `revoked`, `taken` or `owner`."""
    return f"{PREFIX}bridge:{queue}:{name}"


def node_owner(node: str) -> str:
    """The lease (string with a time-out) of a node's name; its value is the process that has the name."""
    return f"{PREFIX}node:{node}"


ANY_OF_MODELS = PREFIX + "{*}:*"  # a glob: all keys of models, also of those that are not registered


def lane(model: str, version: str, name: str = NORMAL) -> str:
    """The request stream of one lane (`FRONT` included)."""
    return f"{PREFIX}{{{model}}}:{name}:{version}"


def default_lane(model: str, name: str = NORMAL) -> str:
    """The stream whose requests go to the lane of the default version."""
    return f"{PREFIX}{{{model}}}:{name}"


def is_lane(key: bytes) -> bool:
    """Whether this stream of a model is a lane, as far as its name tells, and no seat."""
    name = key.partition(b"}:")[2]
    return (b":" in name or name.decode(errors="replace") in LANES) and SEAT not in key


def lanes(model: str, version: str) -> tuple[str, ...]:
    """All request streams of a model version in the order in which replicas read them."""
    return tuple(lane(model, version, name) for name in (FRONT, *LANES))


def front_of(lane: bytes) -> bytes:
    """The `FRONT` of the same model version as another of its lanes."""
    head, _, tail = lane.partition(b"}:")
    return b"%s}:%s:%s" % (head, FRONT.encode(), tail.partition(b":")[2])


def job(model: str, request_id: str) -> str:
    """The record (hash) of one job."""
    return f"{PREFIX}{{{model}}}:job:{request_id}"


BODY = b"body:"  # begins the reference of a body that is a key; the rest is the request's id


def beside(lane: bytes, ref: bytes) -> bytes:
    """The body (string) that a reference in an entry of this lane names: `marq:{MODEL}:body:ID`."""
    return b"%s}:%s" % (lane.partition(b"}:")[0], ref)


def jobs(model: str) -> str:
    """The prefix of the keys of the index of a model's jobs (see marq/queue/lua/index.lua)."""
    return f"{PREFIX}{{{model}}}:jobs:"


def group(model: str, name: str) -> str:
    """The record (hash) of a group of jobs (see marq/queue/lua/ends.lua)."""
    return f"{PREFIX}{{{model}}}:group:{name}"


def uploads(model: str) -> str:
    """Groups that are still uploaded (sorted set by when their gateway counts as lost, unix ms)."""
    return f"{PREFIX}{{{model}}}:uploads"


def scheduled(model: str, version: str) -> str:
    """The jobs of a version that are not due yet (sorted set by unix ms)."""
    return f"{PREFIX}{{{model}}}:scheduled:{version}"


def callers(model: str, version: str) -> str:
    """How callers share the lanes of a version (hash, see marq/queue/lua/callers.lua)."""
    return f"{PREFIX}{{{model}}}:callers:{version}"


def held(model: str, version: str, name: str, caller: str) -> str:
    """The held jobs of a caller and a lane (sorted set by the moment of submission)."""
    return f"{PREFIX}{{{model}}}:held:{name}:{caller}:{version}"


def held_counts(model: str, version: str) -> str:
    """The numbers of held jobs of a version (hash)."""
    return f"{PREFIX}{{{model}}}:held-counts:{version}"


def job_ends(model: str) -> str:
    """The log (stream) of jobs that have ended; it exists while somebody reads it."""
    return f"{PREFIX}{{{model}}}:job-ends"


WEBHOOKS = PREFIX + "webhooks"  # sorted set: models by when a job with a webhook was last queued, unix s
WEBHOOK_SECRET = PREFIX + "webhooks:secret"  # string: signs messages where no setting has a secret


def webhooks(model: str, which: str) -> str:
    """The ids of messages of webhooks: `due` (sorted set by the next try, unix ms), `failed` (by the end)."""
    return f"{PREFIX}{{{model}}}:webhooks:{which}"


def webhook(model: str, message: str) -> str:
    """One message of a webhook (hash)."""
    return f"{PREFIX}{{{model}}}:webhook:{message}"


def parts(model: str, request_id: str) -> str:
    """The streamed parts of a job (list): status and headers as JSON, then the bodies of the parts."""
    return f"{PREFIX}{{{model}}}:parts:{request_id}"


FINISHED = PREFIX + "{*}:finished"  # a glob: the channels of all models


def finished(model: str) -> str:
    """The pub/sub channel that names jobs of a model that have finished or streamed, space-separated."""
    return f"{PREFIX}{{{model}}}:finished"


JOB_STORES = PREFIX + "job-stores"  # hash: id of a store of job files -> its directory


def holders(model: str) -> str:
    """Dead letters and replayed jobs by the files of bodies that they need (see file_sweep.py)."""
    return f"{PREFIX}{{{model}}}:holders"


def dead_letters(model: str) -> str:
    """The stream of entries that were given up."""
    return f"{PREFIX}{{{model}}}:dead"


def pools(model: str, version: str) -> str:
    """Hash: pool name -> its last report as JSON."""
    return f"{PREFIX}{{{model}}}:pools:{version}"


def pool_owner(model: str, pool: str) -> str:
    """The lease (string with a time-out) of a pool's name; its value is the node that runs the pool."""
    return f"{PREFIX}{{{model}}}:owner:{pool}"


def slot(model: str, version: str, number: int) -> str:
    """The lease (string with a time-out) of one replica slot; its value is the node that holds it."""
    return f"{PREFIX}{{{model}}}:slot:{number}:{version}"


SEAT = b"}:seat-"  # in the lanes of seats and in the key of their owners


def seats(model: str, version: str) -> str:
    """The replicas that take new sequences (sorted set); marq/admission/lua/sequence.lua has more."""
    return f"{PREFIX}{{{model}}}:seats:{version}"


def seat_owners(model: str, version: str) -> str:
    """Hash: seat -> the consumer of its replica."""
    return f"{PREFIX}{{{model}}}:seat-owners:{version}"


def of_seats(model: str, version: str) -> tuple[str, ...]:
    """All keys about seats and sequences but the lanes."""
    kinds = ("seats", "seat-owners", "sequences", "sequence-records")
    return tuple(f"{PREFIX}{{{model}}}:{kind}:{version}" for kind in kinds)


def seat_lane(model: str, version: str, seat: str) -> str:
    """The requests of the sequences of one replica (stream)."""
    return lane(model, version, f"seat-{seat}")


def model_metrics(model: str) -> str:
    """The counters and histograms (hash: series -> value) of a model."""
    return f"{PREFIX}{{{model}}}:metrics"


def host_metrics(host: str) -> str:
    """The counters and histograms of a host that belong to no model; expires a day after its last process."""
    return f"{METRICS}:host:{host}"


def process_metrics(process: str) -> str:
    """The gauges of one process; expires soon after it."""
    return f"{METRICS}:process:{process}"


def run(workflow: str, run_id: str) -> str:
    """The record (hash) of one run of a workflow whose client waits; that of a job is `job`."""
    return f"{PREFIX}{{{workflow}}}:run:{run_id}"


def owner_of(key: bytes) -> str:
    """The model or workflow whose key it is."""
    return key[len(PREFIX) + 1 :].partition(b"}:")[0].decode(errors="replace")


def due(workflow: str) -> str:
    """The tries of nodes of a workflow by the moment when they are over (sorted set by unix ms)."""
    return f"{PREFIX}{{{workflow}}}:due"


def replies(gateway: str) -> str:
    """The stream on which one gateway process or client waits for replies."""
    return f"{PREFIX}replies:{gateway}"
