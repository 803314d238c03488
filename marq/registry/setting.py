"""The facts about one setting of a model, kept in the annotation of its dataclass field."""

from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Setting:
    """The facts about a setting besides its value; an empty name means that the setting is not offered there.

    The first two facts must be given, so that no field can be forgotten when replicas are compared.
    """

    description: str  # one sentence in plain English
    _: KW_ONLY
    replaces_replicas: bool  # whether a change of the value needs new replicas
    yaml: str = ""  # key in model-config.yaml, and in the `models` JSON if that may set it
    in_models_json: bool = False
    server: str = ""  # the server setting that holds the default
    api: str = ""  # parameter of the management API when a model is registered
    changeable: bool = False  # whether the parameter may also be given for a registered model
    describe: str = ""  # key in the answer of describe
    torchserve: bool = True  # whether TorchServe has the key, too
    least: int = 1  # bounds of an integer
    most: int | None = None
    unset: int | None = None  # number with which TorchServe's clients say "not given"
    kept_on_join: bool = False  # whether a server that joins others keeps the stored value
    name: str = ""  # of the field; settings_of() sets it, and the type
    type: object = None


def settings_of(cls: "type[DataclassInstance]") -> tuple[Setting, ...]:
    """The settings of a dataclass in the order of its fields. Raises TypeError for a field without facts."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_setting(cls, field.name, hints[field.name]) for field in fields(cls))


def _setting(cls: "type[DataclassInstance]", name: str, hint: object) -> Setting:
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for extra in extras:
        if isinstance(extra, Setting):
            return replace(extra, name=name, type=kind)
    raise TypeError(f"{cls.__name__}.{name} must be Annotated[{hint}, Setting(...)]")
