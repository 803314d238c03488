"""The rules for a request to register and for the archive that it names. Each raises a ServiceError."""

from archive.manifest import RUNTIMES
from archive.model_config import ModelConfig
from marq import errors
from marq.jobs.url_rules import UrlRules
from marq.plugins import discovery
from marq.plugins.protocols import BATCHING, OWN_POLICIES
from marq.registry import names
from marq.registry.config.wrong_keys import wrong_keys
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


def check_webhook(settings: Settings, spec: ModelSpec) -> None:
    """Raises InvalidModel for a webhook of all jobs that none of them could send."""
    try:
        UrlRules.of(settings).check_webhook(spec.webhook_url, "webhookUrl")
    except errors.BadRequest as error:
        raise errors.InvalidModel(error.message) from None


def check_config(config: ModelConfig) -> None:
    """Raises InvalidModel, which names all keys with which the model could not run as it was asked to."""
    if faults := list(wrong_keys(config)):
        raise errors.InvalidModel("\n".join(faults))
