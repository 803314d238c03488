"""Every name that TorchServe's handlers, examples and tools import is there."""

import importlib
import importlib.util
import re
import subprocess
import sys

import pytest
from ts_names import PAIRS

# Modules that are a package's own handlers: without it they cannot even be imported, and say so.
NEED_TORCHVISION = {
    f"ts.torch_handler.{name}" for name in ("image_classifier", "image_segmenter", "object_detector")
}


@pytest.mark.parametrize(("module", "name"), PAIRS, ids=[".".join(pair) for pair in PAIRS])
def test_the_name_can_be_imported(module, name):
    if module in NEED_TORCHVISION and importlib.util.find_spec("torchvision") is None:
        with pytest.raises(ImportError, match="pip install torchvision"):
            importlib.import_module(module)
        return
    found = importlib.import_module(module)
    assert name == "*" or hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}")


def test_the_version_is_that_of_the_surface():
    assert importlib.import_module("ts").__version__ == "0.12.0"


@pytest.mark.parametrize(
    "module", ["ts", "ts.context", "ts.service", "ts.utils.util", "ts.handler_utils.utils"]
)
def test_what_function_handlers_import_does_not_load_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0


@pytest.mark.parametrize(("engine", "package"), [("vllm", "vllm"), ("trt_llm", "tensorrt-llm")])
def test_the_launcher_of_language_models_says_what_is_missing(engine, package, tmp_path):
    if importlib.util.find_spec(package.replace("-", "_")):
        pytest.skip(f"{package} is installed")
    done = launch("--engine", engine, "--model_store", str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert f"pip install {package}" in done.stderr


def test_the_launcher_of_language_models_explains_its_options():
    done = launch("--help")
    assert done.returncode == 0
    assert {"--model_id", "--vllm_engine.max_num_seqs"} <= set(re.findall(r"--[\w.]+", done.stdout))


def launch(*arguments):
    command = [sys.executable, "-P", "-m", "ts.llm_launcher", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
