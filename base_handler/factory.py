"""`handler_factory`, and the handler that it returns."""

import abc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from base_handler import samples, setup
from base_handler.failures import Failure, attempt
from ts.handler_utils.timer import timed
from ts.torch_handler import _weights
from ts.torch_handler.base_handler import BaseHandler

BAD_INPUT = Failure(400, "The input cannot be preprocessed.")
NO_ANSWER = Failure(503, "Prediction failed")


@dataclass(frozen=True)
class Functions:
    """The user's functions."""

    init: Callable[..., torch.nn.Module]
    init_kwargs: dict[str, Any]
    preprocess: Callable[[Any], Any] | None
    postprocess: Callable[[Any], Any] | None
    install_packages: Callable[[], Any] | None
    unpack_dependencies: Callable[[], Any] | None


def handler_factory(
    init_function,
    preprocess_function=None,
    postprocess_function=None,
    install_packages=None,
    unpack_dependencies=None,
    **init_kwargs,
):
    """A handler for the model that `init_function(**init_kwargs)` returns, with the archive's checkpoint.

    Write `handle = handler_factory(...)` in the handler file. `preprocess_function` and
    `postprocess_function` get one sample each; what they cannot process fails alone, its neighbours are
    answered. `install_packages` and `unpack_dependencies` are called once, before the model is made.
    """
    functions = Functions(
        init_function,
        init_kwargs,
        preprocess_function,
        postprocess_function,
        install_packages,
        unpack_dependencies,
    )
    caller = sys._getframe(1).f_globals["__name__"]  # so that the class is found there under any name
    return EntryPoint("Handler", (FunctionHandler,), {"functions": functions, "__module__": caller})


class EntryPoint(abc.ABCMeta):
    """Classes that are entry points, too: call them with `(None, context)` first, then with each batch.

    So they serve under both rules: as the function `handle`, and as the only class of a module.
    """

    def __call__(cls, *arguments):
        if not arguments:
            return super().__call__()
        data, context = arguments
        if data is None or "only" not in vars(cls):
            cls.only = cls()
            cls.only.initialize(context)
        return None if data is None else cls.only.handle(data, context)


class FunctionHandler(BaseHandler, metaclass=EntryPoint):
    """A BaseHandler whose steps call the user's functions, sample by sample.

    Samples of one shape go through the model together. A step's list holds a Failure in the place of
    each sample that failed.
    """

    functions: Functions

    def initialize(self, context):
        setup.prepare(context, self.functions.install_packages, self.functions.unpack_dependencies)
        super().initialize(context)

    def _load_model(self, model_dir):
        model = self.functions.init(**self.functions.init_kwargs)
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"init_function must return a torch.nn.Module, not {type(model).__name__}")
        self.model_pt_path = _checkpoint(self.manifest, Path(model_dir))
        if self.model_pt_path:
            _weights.fill(model, _weights.read_saved(self.model_pt_path, self.device))
        return model.to(self.device).eval()

    @timed
    def preprocess(self, data):
        return self._each(self._prepare, data, BAD_INPUT)

    @timed
    def inference(self, data):
        groups = samples.alike([None if isinstance(sample, Failure) else sample for sample in data])
        outputs = list(data)
        for group in groups:
            given = [data[index] for index in group]
            # A model that fails on all samples fails its batch; one that fails on some fails those.
            answered = self._infer(given) if len(groups) == 1 else attempt(self._infer, given, NO_ANSWER)
            for place, index in enumerate(group):
                outputs[index] = answered if isinstance(answered, Failure) else answered[place]
        return outputs

    @timed
    def postprocess(self, data):
        answers = self._each(self.functions.postprocess or samples.to_plain, data, NO_ANSWER)
        return [self._reported(index, answer) for index, answer in enumerate(answers)]

    def _prepare(self, row):
        value = samples.value_of(row)
        if self.functions.preprocess:
            value = self.functions.preprocess(value)
        return samples.to_tensors(value)

    def _infer(self, given):
        with torch.inference_mode():
            output = samples.call(self.model, samples.stack(given, self.device))
        return samples.split(output, len(given))

    def _each(self, step, values, failure):
        return [
            value if isinstance(value, Failure) else attempt(step, value, failure, self._request(index))
            for index, value in enumerate(values)
        ]

    def _request(self, index):
        return self.context.get_request_id(index) if self.context else None

    def _reported(self, index, answer):
        if not isinstance(answer, Failure):
            return answer
        self.context.set_response_status(answer.status, answer.phrase, index)
        self.context.set_response_content_type(index, "application/json")
        return answer.body


def _checkpoint(manifest, model_dir):
    """None where the weights are the business of `init_function`: no file, or an empty one."""
    name = ((manifest or {}).get("model") or {}).get("serializedFile")
    path = model_dir / name if name else None
    return str(path) if path and path.stat().st_size else None
