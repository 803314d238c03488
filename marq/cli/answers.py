"""The JSON answers of the server that commands read: their keys and types."""

from typing import NotRequired, TypedDict


class Replica(TypedDict):
    """One of `workers` in the description of a version; the table shows its other keys, too."""

    status: str


class LoadFailure(TypedDict):
    failures: int
    reason: str
    failingSince: NotRequired[str]


class Scaling(TypedDict):
    """The number of replicas that follows the queue, as far as a command reads it."""

    wanted: int


class Version(TypedDict):
    """The description of one model version; the view shows its other keys, too."""

    modelName: str
    modelVersion: str
    modelUrl: str
    minWorkers: int
    maxWorkers: int
    batchSize: int
    maxBatchDelay: int
    loadedAtStartup: bool
    workers: list[Replica]
    loadFailure: NotRequired[LoadFailure]
    scaling: NotRequired[Scaling]


class ModelLetters(TypedDict):
    """The dead letters of one model."""

    model: str
    count: int
    bytes: int
    oldest: float  # unix s
    newest: float


class Letter(TypedDict):
    """One dead letter; the last two keys are those of `marq dead show` alone."""

    id: str
    died: float  # unix s
    version: str
    attempts: int
    device: str
    reason: str
    log: str
    input: NotRequired[str]
    fields: NotRequired[dict[str, str]]


class LetterPage(TypedDict):
    dead_letters: list[Letter]
    next: NotRequired[str]  # the id before which the next page begins


class Workflow(TypedDict):
    """One entry of the list of workflows."""

    workflowName: str
    workflowUrl: str


class Webhook(TypedDict):
    """One message of a webhook that was not delivered, as far as the table shows it."""

    id: str
    delivery: str
    tries: int
    next_try: NotRequired[float]  # unix s
    job_id: str | None
    group: str | None
    error: str | None


class BatchRefusal(TypedDict):
    """Why a line or the rest of a batch was refused, as far as a command reads it."""

    message: str


class BatchLine(TypedDict):
    """The answer to one line of a batch."""

    line: int
    job_id: NotRequired[str]
    error: NotRequired[BatchRefusal]


class BatchTotal(TypedDict):
    """The last line of the answer to a batch."""

    group: str
    queued: int
    refused: int
    error: NotRequired[BatchRefusal]


class JobEvent(TypedDict, total=False):
    """The data of an event of a job: its progress or its state."""

    fraction: float
    message: str
    state: str


class Job(TypedDict):
    """The state of a job; the view shows its other keys, too."""

    job_id: str
    state: str
