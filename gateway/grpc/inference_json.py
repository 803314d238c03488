"""A ModelInferRequest as the JSON of the REST API, and its JSON answer as a ModelInferResponse."""

import json
from collections.abc import Mapping

from gateway.grpc.messages.open_inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from gateway.inference import tensors
from gateway.inference.tensors import BadTensor, Document, Elements, Kind


class BadAnswer(ValueError):
    """Raised when a handler's answer is not one of the open inference protocol."""


def encode(request: ModelInferRequest) -> bytes:
    """The body of the request over REST. Raises BadTensor."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadTensor(
            f"raw_input_contents has {len(raw)} tensors, but there are {len(request.inputs)} inputs."
        )
    document: Document = {"id": request.id} if request.id else {}
    document["model_name"] = request.model_name
    document |= _parameters(request.parameters)
    document["inputs"] = [
        _input(tensor, raw[number] if raw else None) for number, tensor in enumerate(request.inputs)
    ]
    if request.outputs:
        document["outputs"] = [
            {"name": output.name, **_parameters(output.parameters)} for output in request.outputs
        ]
    return tensors.dumped(document)


def decode(body: bytes, request: ModelInferRequest, version: str) -> ModelInferResponse:
    """The message of an answer; `version` is of the model that ran. Raises BadAnswer."""
    try:
        document = json.loads(body)
        outputs = document["outputs"]
        wanted = {output.name for output in request.outputs}
        chosen = [output for output in outputs if not wanted or output["name"] in wanted]
        response = ModelInferResponse(
            model_name=str(document.get("model_name") or request.model_name),
            model_version=str(document.get("model_version") or version),
            id=str(document.get("id") or request.id),
        )
        _add_outputs(response, chosen, is_raw=bool(request.raw_input_contents))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise BadAnswer(
            "The answer is not one of the open inference protocol, a JSON object with outputs of name, "
            f"datatype, shape and data: {type(error).__name__}: {error}"
        ) from None
    return response


def _input(tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Document:
    try:
        kind = tensors.kind_of(tensor.datatype)
        data = _contents(kind, tensor) if raw is None else tensors.decode(kind, tensor.shape, raw)
    except BadTensor as error:
        raise BadTensor(f"Input {tensor.name!r}, {tensor.datatype}: {error}") from None
    document: Document = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
    return {**document, **_parameters(tensor.parameters), "data": data}


def _contents(kind: Kind, tensor: ModelInferRequest.InferInputTensor) -> Elements:
    if not kind.field:
        raise BadTensor("this type needs raw_input_contents.")
    elements = list(getattr(tensor.contents, kind.field))
    tensors.check_shape(tensor.shape, len(elements))
    return [tensors.text_of(each) for each in elements] if tensor.datatype == "BYTES" else elements


def _parameters(given: Mapping[str, InferParameter]) -> Document:
    values = {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
        for name, value in given.items()
    }
    return {"parameters": values} if values else {}


def _add_outputs(response: ModelInferResponse, outputs: list[Document], is_raw: bool) -> None:
    """Raw, if the request was, or if a type has no field of its own."""
    kinds = [tensors.kind_of(output["datatype"]) for output in outputs]
    is_raw = is_raw or not all(kind.field for kind in kinds)
    for output, kind in zip(outputs, kinds, strict=True):
        elements = tensors.flat(output["data"])
        tensors.check_shape(output["shape"], len(elements))
        added = response.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        if is_raw:
            response.raw_output_contents.append(kind.encode(elements))
        else:
            is_bytes = output["datatype"] == "BYTES"
            values = [tensors.bytes_of(each) for each in elements] if is_bytes else elements
            getattr(added.contents, kind.field).extend(values)
