"""Keys of a model-config.yaml with which a model cannot run as it was asked to, with what would be right."""

from collections.abc import Iterator

from archive.model_config import ModelConfig


def wrong_keys(config: ModelConfig) -> Iterator[str]:
    """One sentence for each fault."""
    yield from config.faults
    yield from _of_sizes(config)
    yield from _of_groups(config)
    yield from _of_sequences(config)


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


def _of_sequences(config: ModelConfig) -> Iterator[str]:
    idle_ms, timeout_ms = config.sequence_max_idle_ms or 0, config.sequence_timeout_ms or 0
    if config.sequence_batching and not idle_ms:
        yield (
            "sequenceBatching needs sequenceMaxIdleMSec, the time in milliseconds after which an idle "
            "sequence ends. Set it, for example to 60000."
        )
    if 0 < timeout_ms < idle_ms:
        yield (
            f"sequenceTimeoutMSec, the longest time of a sequence, is {timeout_ms}, and sequenceMaxIdleMSec, "
            f"the longest pause in it, is {idle_ms}: the pause must not be longer. "
            "sequenceTimeoutMSec: 0 means no limit."
        )
