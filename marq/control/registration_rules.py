"""The rules for a request to register and for the archive that it names. Each raises a ServiceError."""

from archive.manifest import RUNTIMES
from archive.model_config import ModelConfig
from marq import errors
from marq.plugins import discovery
from marq.plugins.protocols import BATCHING, OWN_POLICIES
from marq.registry import names
from marq.registry.spec import SETTINGS, ModelSpec
from marq.settings.fields import Settings


def check_request(name: str | None, handler: str, runtime: str | None) -> None:
    if runtime is not None:
        check_runtime(runtime)
    if name:
        check_name(name)
    if handler.startswith("/") or ".." in handler.split("/"):
        raise errors.BadRequest(
            f"Invalid handler: {handler[:200]!r}. Name a file of the archive, like code/handler.py:handle. "
            "A file elsewhere is the operator's to name, with default_service_handler in config.properties."
        )


def check_name(name: str) -> None:
    if not names.is_model_name(name):
        raise errors.BadRequest(f"Invalid model name: {name[:200]!r}. {names.MODEL_RULE}")


def check_version(version: str) -> None:
    if not names.is_version(version):
        raise errors.BadRequest(
            f"Invalid model version in the manifest: {version[:200]!r}. {names.VERSION_RULE}"
        )


def check_runtime(runtime: object) -> None:
    if runtime not in RUNTIMES:
        raise errors.BadRequest(f"Invalid RuntimeType value: {runtime}")


def check_sizes(spec: ModelSpec) -> None:
    for setting in SETTINGS:
        if setting.most is not None and (value := getattr(spec, setting.name)) > setting.most:
            raise errors.InvalidModel(f"{setting.yaml} must be at most {setting.most}, got {value}")


def check_policy(settings: Settings, spec: ModelSpec) -> None:
    """Raises InvalidModel for a batching policy that is neither marq's own nor a plugin's."""
    if spec.batching in OWN_POLICIES:
        return
    found = discovery.find(settings.plugins_path, settings.plugins_left_out)
    there = [*OWN_POLICIES, *(each.name for each in found if each.group == BATCHING)]
    if spec.batching not in there:
        raise errors.InvalidModel(f"batching: there is no policy {spec.batching}, only {', '.join(there)}")


def check_group(config: ModelConfig) -> None:
    if "parallelType" in config.raw and config.parallel_type is None:
        raise errors.InvalidModel(
            f"parallelType must be one of pp, tp, pptp, custom, got {str(config.raw['parallelType'])[:100]!r}"
        )
    if config.torchrun and config.torchrun.nnodes > 1:
        raise errors.InvalidModel(
            "torchrun: nnodes must be 1, because the processes of a replica run on one host. "
            "With nproc-per-node they are as many as there."
        )
    level = config.raw.get("parallelLevel")
    if config.torchrun and config.parallel_type and level:
        processes = config.torchrun.nproc_per_node
        if str(level) != str(processes):
            raise errors.InvalidModel(
                f"parallelLevel is {str(level)[:100]}, and torchrun starts {processes} processes "
                "(nproc-per-node). Set both to the same number, or remove parallelLevel."
            )


def check_rest(config: ModelConfig) -> None:
    if config.idle_timeout_s and config.min_workers == 0 and not config.max_workers:
        raise errors.InvalidModel(
            "idleTimeoutSec with minWorkers: 0 needs maxWorkers, the most replicas that requests may start: "
            "for example maxWorkers: 1"
        )
