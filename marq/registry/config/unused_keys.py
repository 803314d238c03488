"""Keys of a model-config.yaml that count otherwise or have no effect: misspelled, or without another key."""

import difflib
from collections.abc import Iterator

from archive.model_config import ModelConfig
from marq.registry.spec import SETTINGS

# Similarity above which an unknown key is taken for a typo, as with two letters of nine that have changed
# places; others are the handler's.
LIKELY = 0.88
TORCHRUN, LEVEL, IDLE, DRAIN = "torchrun", "parallelLevel", "sequenceMaxIdleMSec", "sequenceDrainSec"
_OF_SEQUENCES = ("sequenceTimeoutMSec", "maxSequenceJobQueueSize", "maxNumSequence")
_RENDEZVOUS = ("rdzv-backend", "rdzv-endpoint", "rdzv-conf", "monitor-interval", "node-rank")
_KEYS = tuple(each.yaml for each in SETTINGS if each.yaml)


def notices(config: ModelConfig) -> list[str]:
    """A sentence for each value that is ignored or counts as another one, and each key without an effect."""
    return [*config.warnings, *(f"{key} {text}" for key, text in unused_keys(config))]


def unused_keys(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """The keys, and what is to be said of each: (key, "has no effect ...")."""
    yield from _counting_otherwise(config)
    yield from _without_another(config)
    plain = {_plain(key): key for key in (*_KEYS, TORCHRUN)}
    for key in config.raw:
        if isinstance(key, str) and key not in plain.values():
            similar = difflib.get_close_matches(_plain(key), plain, 1, LIKELY)
            if similar:
                yield key, f"has no effect on the server: did you mean {plain[similar[0]]}?"


def _counting_otherwise(config: ModelConfig) -> Iterator[tuple[str, str]]:
    raw = config.raw
    if raw.get("minWorkers") == 0 and config.min_workers:
        yield (
            "minWorkers",
            "counts as 1, as in TorchServe: with idleTimeoutSec, a model rests without replicas",
        )
    elif config.min_workers and config.min_workers != raw["minWorkers"]:
        yield "minWorkers", "counts as 1, as in TorchServe: it is below"
    if config.batch_size and config.batch_size != raw["batchSize"]:
        yield "batchSize", "counts as 1, as in TorchServe: it is below"
    for key in ("maxWorkers", "maxBatchDelay", "jobQueueSize", "parallelLevel"):
        if raw.get(key) == 0 and raw[key] is not False:
            yield key, "counts as not set, as in TorchServe: it is 0"
    device_type = str(raw.get("deviceType")).lower()
    if config.device_type and config.device_type != device_type:
        yield "deviceType", f"counts as {config.device_type}: {device_type} and all other GPUs are used"


def _without_another(config: ModelConfig) -> Iterator[tuple[str, str]]:
    if lacking := _lacking_for_sequences(config):
        yield from ((key, f"has no effect without {lacking}") for key in _OF_SEQUENCES if key in config.raw)
    if config.sequence_max_idle_ms and not config.sequence_batching:
        yield IDLE, "has no effect without sequenceBatching"
    if 0 < (config.sequence_timeout_ms or 0) < (config.sequence_max_idle_ms or 0):
        yield IDLE, "has no effect: sequenceTimeoutMSec is shorter, and no sequence lasts longer than that"
    if DRAIN in config.raw and not config.sequence_batching:
        yield DRAIN, "has no effect without sequenceBatching"
    yield from _of_scaling(config)
    if config.max_workers and config.min_workers is None:
        yield "maxWorkers", "has no effect without minWorkers"
    if config.parallel_level and not config.parallel_type:
        yield TORCHRUN if config.torchrun else LEVEL, "has no effect without parallelType"
    if config.parallel_type and not config.parallel_level:
        yield "parallelType", "has no effect without parallelLevel or torchrun"
    if config.torchrun and any(key in _RENDEZVOUS for key in _of_torchrun(config)):
        yield (
            TORCHRUN,
            "starts its processes on one host: rdzv-*, node-rank and monitor-interval have no effect",
        )
    if config.device_ids and config.device_type == "cpu":
        yield "deviceIds", "has no effect with deviceType cpu"


def _lacking_for_sequences(config: ModelConfig) -> str:
    """The key without which limits of sequences have no effect; empty if none is missing."""
    if not config.sequence_max_idle_ms:
        return IDLE
    return "" if config.sequence_batching else "sequenceBatching"


def _of_torchrun(config: ModelConfig) -> list[object]:
    given = config.raw.get(TORCHRUN)
    return list(given) if isinstance(given, dict) else []


def _of_scaling(config: ModelConfig) -> Iterator[tuple[str, str]]:
    fewest, most = config.min_workers, config.max_workers or 0
    if config.idle_timeout_s and fewest != 0:
        yield "idleTimeoutSec", "has no effect without minWorkers: 0"
    if fewest is None or most <= fewest:
        for key in ("targetQueueMs", "scaleDownDelaySec"):
            if key in config.raw:
                yield key, "has no effect unless maxWorkers is above minWorkers"
    if config.use_job_ticket and fewest and most > fewest:
        yield "maxWorkers", "is reached by jobs alone: with useJobTicket no prediction waits for a replica"
    if config.replicas_per_device and config.device_type == "cpu":
        yield "replicasPerDevice", "has no effect with deviceType cpu"


def _plain(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()
