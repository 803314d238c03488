"""Keys of a model-config.yaml with which a model cannot run as it was asked to, with what would be right."""

from collections.abc import Iterator

from archive.model_config import ModelConfig
from marq.plugins.protocols import OWN_POLICIES


def wrong_keys(config: ModelConfig) -> Iterator[str]:
    """One sentence for each fault."""
    yield from config.faults
    yield from _of_sizes(config)
    yield from _of_groups(config)
    yield from _of_sequences(config)
    yield from _of_modes(config)


def excludes(one: str, other: str, reason: str) -> str:
    """The sentence about two keys that exclude each other; `reason`: what is so with the first one."""
    return f"{one} and {other} exclude each other: with {one}, {reason}. Switch one of them off."


def _of_sizes(config: ModelConfig) -> Iterator[str]:
    fewest, most = config.min_workers, config.max_workers
    if fewest and most and fewest > most:
        yield f"minWorkers is {fewest}, and maxWorkers is {most}: maxWorkers must be at least minWorkers"
    if config.idle_timeout_s and fewest == 0 and not most:
        yield (
            "idleTimeoutSec with minWorkers: 0 needs maxWorkers, the most replicas that requests may start: "
            "for example maxWorkers: 1"
        )


def _of_groups(config: ModelConfig) -> Iterator[str]:
    if config.torchrun and config.torchrun.nnodes > 1:
        yield (
            "torchrun: nnodes must be 1, because the processes of a replica run on one host. "
            "With nproc-per-node they are as many as there."
        )
    level = config.raw.get("parallelLevel")
    if config.torchrun and config.parallel_type and level and level != config.torchrun.nproc_per_node:
        yield (
            f"parallelLevel is {str(level)[:100]}, and torchrun starts {config.torchrun.nproc_per_node} "
            "processes (nproc-per-node). Set both to the same number, or remove parallelLevel."
        )
    processes, gpus = config.ranks, len(set(config.device_ids or ())) if config.device_type != "cpu" else 0
    if processes > 1 and config.async_communication:
        yield excludes("torchrun", "asyncCommunication", "all processes run the same batch at a time")
    if config.parallel_type and 0 < gpus < (config.parallel_level or 0):
        needing = "processes" if processes else "devices"
        yield (
            f"a replica has {config.parallel_level} {needing} (parallelLevel or nproc-per-node), and "
            f"deviceIds names {gpus} GPUs. Name as many GPUs, or lower the number."
        )


def _of_sequences(config: ModelConfig) -> Iterator[str]:
    if config.sequence_batching and not config.sequence_max_idle_ms:
        yield (
            "sequenceBatching needs sequenceMaxIdleMSec, the time in milliseconds after which an idle "
            "sequence ends. Set it, for example to 60000."
        )


def _of_modes(config: ModelConfig) -> Iterator[str]:
    if config.sequence_batching:
        yield from _of_policy("sequenceBatching", config.batching)
        if config.async_communication:
            yield excludes("sequenceBatching", "asyncCommunication", "the handler runs one batch at a time")
        if config.use_job_ticket:
            yield excludes("sequenceBatching", "useJobTicket", "the replica of an open sequence may be busy")
    elif config.continuous_batching:
        yield from _of_policy("continuousBatching", config.batching)
    if config.continuous_batching:
        if config.async_communication:
            yield excludes(
                "continuousBatching", "asyncCommunication", "both keep many requests in the handler"
            )
        if config.use_job_ticket:
            yield excludes(
                "continuousBatching", "useJobTicket", "a busy replica takes requests between two steps"
            )
    if config.use_job_ticket and config.async_communication:
        yield excludes("useJobTicket", "asyncCommunication", "a busy replica takes requests")


def _of_policy(mode: str, policy: str) -> Iterator[str]:
    if policy not in OWN_POLICIES:
        yield excludes(mode, f"batching: {policy}", "a plugin cannot choose the rows")
