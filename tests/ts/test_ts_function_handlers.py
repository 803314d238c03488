import io
import logging
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import torch

from base_handler import BaseHandler, handler_factory, setup
from ts.handler_utils import extra_files
from ts.torch_handler.base_handler import BaseHandler as BuiltIn
from ts.utils.util import PredictionException
from workers.handler import loader

OWN = "def handle(data, context):\n    return ['own']\n"
HANDLER = """
from base_handler import handler_factory
from net import Net

{name} = handler_factory(Net, {functions})
"""
ROW = {"body": [1.0, 1.0, 1.0]}
ANSWER = [4.0, 13.0]


class Double(torch.nn.Module):
    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def started(context, *functions, init=Double, **options):
    """A handler as the server leaves it, ready for its first batch."""
    handle = handler_factory(init, *functions, **options)
    assert handle(None, context) is None
    return handle


@pytest.fixture
def load(net, make_context, model_dir):
    """Loads a handler file as a replica does; `net.pt` has the weights of `net`."""
    torch.save(net.state_dict(), "net.pt")

    def load(name="handle", functions="", handler="handler.py"):
        (model_dir / "handler.py").write_text(HANDLER.format(name=name, functions=functions))
        context = make_context(serializedFile="net.pt")
        return loader.load(handler, model_dir, context), context

    return load


@pytest.mark.parametrize(
    ("name", "handler"), [("handle", "handler.py"), ("handler", "handler"), ("serve", "handler.py:serve")]
)
def test_a_handler_is_found_under_any_name(load, name, handler):
    handle, context = load(name, handler=handler)
    assert handle([ROW], context) == [ANSWER]


def test_functions_get_one_sample_each(load):
    functions = "lambda data: [value / 2 for value in data], lambda output: {'sum': float(output.sum())}"
    handle, context = load(functions=functions)
    assert handle([{"data": [2, 2, 2]}], context) == [{"sum": 17.0}]


def test_the_init_function_gets_the_other_arguments(make_context):
    context = make_context()
    handle = started(context, factor=3.0)
    assert handle([{"body": [1.0]}], context) == [[3.0]]


def test_weights_are_mapped_and_not_copied(load, model_dir):
    load()
    assert str(model_dir / "net.pt") in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("empty", [True, False])
def test_without_a_checkpoint_the_model_stays_as_it_was_made(make_context, model_dir, empty):
    if empty:
        (model_dir / "empty.pt").touch()
    context = make_context(**({"serializedFile": "empty.pt"} if empty else {}))
    assert started(context)([{"body": [1.0]}], context) == [[2.0]]


def test_what_is_no_module_is_refused(make_context):
    with pytest.raises(TypeError, match=r"must return a torch.nn.Module, not dict"):
        started(make_context(), init=dict)


def test_samples_of_one_shape_go_through_the_model_together(make_context):
    sizes = []

    class Counting(Double):
        def forward(self, x):
            sizes.append(tuple(x.shape))
            return super().forward(x)

    context = make_context(rows=4)
    rows = [{"body": body} for body in ([1.0], [2.0], [1.0, 2.0], [3.0])]
    answers = started(context, init=Counting)(rows, context)
    assert answers == [[2.0], [4.0], [2.0, 4.0], [6.0]]
    assert sizes == [(3, 1), (1, 2)]


def test_several_and_named_inputs_and_outputs(make_context):
    class Both(torch.nn.Module):
        def forward(self, left, right):
            return {"sum": left + right, "pair": (left, right)}

    context = make_context(rows=2)
    rows = [{"body": {"left": [1.0], "right": [2.0]}}, {"body": {"left": [3.0], "right": [4.0]}}]
    expected = [{"sum": [3.0], "pair": ([1.0], [2.0])}, {"sum": [7.0], "pair": ([3.0], [4.0])}]
    assert started(context, init=Both)(rows, context) == expected
    as_tuple = started(context, lambda data: (data["left"], data["right"]), init=Both)
    assert as_tuple(rows, context) == expected


def test_a_sample_that_cannot_be_preprocessed_fails_alone(make_context, caplog):
    context = make_context(rows=3)
    handle = started(context, lambda text: [float(text)])
    answers = handle([{"body": "1"}, {"body": "x"}, {"body": "3"}], context)
    assert [answers[0], answers[2]] == [[2.0], [6.0]]
    assert answers[1] == {
        "code": 400, "type": "BadRequestException", "message": "The input cannot be preprocessed.",
    }  # fmt: skip
    assert [context.get_response_status(index)[0] for index in range(3)] == [200, 400, 200]
    assert context.get_response_content_type(1) == "application/json"
    assert "Request: id-1" in caplog.text
    assert "could not convert string to float" in caplog.text


def test_nothing_reaches_the_model_when_all_samples_fail(make_context):
    context = make_context()
    answers = started(context, int, init=torch.nn.Identity)([{"body": "x"}], context)
    assert answers[0]["code"] == 400


def test_a_prediction_exception_says_its_own_status(make_context):
    def refuse(_):
        raise PredictionException("too dark", 422)

    context = make_context()
    answers = started(context, refuse)([{"body": [1.0]}], context)
    assert answers[0]["message"] == "too dark"
    assert context.get_response_status(0) == (422, "Unprocessable Entity")


def test_a_sample_that_cannot_be_postprocessed_fails_alone(make_context):
    context = make_context(rows=2)
    handle = started(context, None, lambda output: 1 / int(output))
    answers = handle([{"body": 0.0}, {"body": 1.0}], context)
    assert (answers[0]["code"], answers[1]) == (503, 0.5)


def test_a_shape_that_the_model_does_not_take_fails_alone(load):
    handle, context = load()
    context.request_processor *= 2
    answers = handle([{"body": [1.0]}, ROW], context)
    assert (answers[0]["code"], answers[1]) == (503, ANSWER)


def test_a_model_that_fails_on_every_sample_fails_the_batch(load):
    handle, context = load()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        handle([{"body": [1.0]}], context)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_running_out_of_memory_fails_the_batch(make_context, error):
    def fail(_):
        raise error

    context = make_context()
    with pytest.raises(type(error)):
        started(context, fail)([{"body": [1.0]}], context)


def test_an_output_of_another_length_is_an_error(make_context):
    context = make_context(rows=2)
    handle = started(context, init=lambda: torch.nn.Flatten(0))
    with pytest.raises(ValueError, match="4 rows for 2 samples"):
        handle([{"body": [1.0, 2.0]}, {"body": [1.0, 2.0]}], context)


def test_the_metric_of_the_handler_is_emitted(make_context, caplog):
    caplog.set_level(logging.INFO)
    context = make_context()
    started(context)([{"body": [1.0]}], context)
    assert "[METRICS]HandlerTime" in caplog.text


def tar_of(path, **files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_extra_files_are_unpacked_once_and_before_the_model_is_made(make_context, model_dir):
    tar_of("extra.tar.gz", factor=b"5")
    context = make_context(config={"system": {"extraFiles": "extra.tar.gz"}})

    def init():
        return Double(float(Path("factor").read_text()))

    assert started(context, init=init)([{"body": [1.0]}], context) == [[5.0]]
    (model_dir / "factor").write_text("7")  # unpacking again would undo this
    assert started(context, init=init)([{"body": [1.0]}], context) == [[7.0]]


def test_extra_files_that_changed_are_unpacked_again(make_context, model_dir):
    for content in (b"5", b"66"):
        tar_of("extra.tar.gz", factor=content)
        extra_files.unpack_extra_files(model_dir, "extra.tar.gz")
        assert (model_dir / "factor").read_bytes() == content


def test_extra_files_stay_in_the_model_directory(model_dir):
    tar_of("extra.tar.gz", **{"../out": b"1"})
    with pytest.raises(tarfile.OutsideDestinationError):
        extra_files.unpack_extra_files(model_dir, "extra.tar.gz")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_extra_files_hold_files_and_directories_only(model_dir, kind):
    with tarfile.open("extra.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "/etc"
        tar.addfile(link)
    with pytest.raises(ValueError, match="link, which is neither a file nor a directory"):
        extra_files.unpack_extra_files(model_dir, "extra.tar.gz")
    assert not (model_dir / "link").is_symlink()


@pytest.mark.parametrize("name", ["../extra.tar.gz", "/tmp/extra.tar.gz", "a/../../extra.tar.gz"])
def test_extra_files_are_in_the_model_archive(model_dir, name):
    tar_of(model_dir.parent / "extra.tar.gz", factor=b"5")
    with pytest.raises(ValueError, match=r"system\.extraFiles is the name of a file in the model archive"):
        extra_files.unpack_extra_files(model_dir, name)


def test_extra_files_that_are_missing_are_named(model_dir):
    with pytest.raises(FileNotFoundError, match=r"system.extraFiles names gone.tar.gz"):
        extra_files.unpack_extra_files(model_dir, "gone.tar.gz")


def test_preparations_happen_once_in_order_and_before_the_model_is_made(make_context):
    steps = []
    context = make_context()
    handle = started(
        context,
        init=lambda: steps.append("init") or Double(),
        install_packages=lambda: steps.append("install"),
        unpack_dependencies=lambda: steps.append("unpack"),
    )
    handle([{"body": [1.0]}], context)
    assert steps == ["install", "unpack", "init"]


def test_replicas_that_share_a_directory_prepare_one_after_the_other(make_context):
    context, running, overlaps = make_context(), [], []

    def install():
        overlaps.append(len(running))
        running.append(1)
        time.sleep(0.05)
        running.pop()

    threads = [threading.Thread(target=setup.prepare, args=(context, install)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [0, 0, 0]


def test_a_limit_on_gpu_memory_is_ignored_without_a_gpu(make_context, caplog):
    caplog.set_level(logging.INFO)
    started(make_context(config={"system": {"maxGPUMemory": 500}}))
    assert "system.maxGPUMemory (500 MB) is ignored" in caplog.text


@pytest.mark.parametrize("limit", ["500", True, 0, -1])
def test_a_limit_that_is_no_number_of_mb_is_refused(limit):
    with pytest.raises(ValueError, match=r"system.maxGPUMemory is a number of MB"):
        setup.limit_gpu_memory(limit, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_limit_on_gpu_memory_holds():
    setup.limit_gpu_memory(64, 0)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(128 * setup.MIB, dtype=torch.uint8, device="cuda:0")
        assert torch.empty(16 * setup.MIB, dtype=torch.uint8, device="cuda:0").is_cuda
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)


def test_the_default_handler_of_the_same_name_is_the_built_in_one(net, make_context, model_dir):
    torch.save(net.state_dict(), "net.pt")
    context = make_context(serializedFile="net.pt", modelFile="net.py")
    handle = loader.load("base_handler", model_dir, context)
    assert handle([ROW["body"]], context) == [ANSWER]
    assert isinstance(handle.__self__, BuiltIn)
    assert type(handle.__self__) is BaseHandler


def test_the_base_handler_of_an_archive_comes_first(make_context, model_dir, monkeypatch):
    (model_dir / "base_handler.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "base_handler")
    assert loader.load("base_handler", model_dir, make_context())([{}], None) == ["own"]
