import json
import logging
import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from workers.handler import loader


@pytest.fixture
def context():
    return SimpleNamespace(model_name="mnist", metrics=MetricsCacheYamlImpl(), log=[])


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    """The working directory and first on the path; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def load(model_dir, context):
    """Write `my_handler.py` and load it."""

    def write_and_load(code, handler="my_handler", envelope=None):
        (model_dir / "my_handler.py").write_text(textwrap.dedent(code))
        return loader.load(handler, model_dir, context, envelope)

    return write_and_load


CLASS = """
    from collections import OrderedDict

    class Handler:
        def initialize(self, context):  # noqa: ARG002
            context.log.append("initialized")

        def handle(self, data, context):  # noqa: ARG002
            return [row["body"] for row in data]
"""


def test_the_only_class_of_a_module_is_the_handler(load, context):
    handle = load(CLASS)
    assert handle([{"body": 1}, {"body": 2}], context) == [1, 2]
    assert context.log == ["initialized"]


@pytest.mark.parametrize("handler", ["my_handler", "my_handler.py", "dir/my_handler.py", "my_handler:no"])
def test_the_handler_string_comes_in_several_forms(load, context, handler):
    assert load(CLASS, handler)([{"body": 1}], context) == [1]


def test_a_module_function_handle_is_called_once_to_initialise(load, context):
    handle = load(
        """
        def handle(data, context):  # noqa: ARG001 - all handlers are called with it
            if data is None:
                context.log.append("initialized")
                return "ignored"
            return [len(data)]
        """
    )
    assert context.log == ["initialized"]
    assert handle([{}], context) == [1]


def test_a_function_may_be_named_and_wins_over_classes(load, context):
    code = "def serve(data, context):\n    return data and ['served']\nclass A: pass\nclass B: pass\n"
    assert load(code, "my_handler.py:serve")([{}], context) == ["served"]


def test_a_dotted_module_may_be_named(load, context, model_dir):
    (model_dir / "pack").mkdir()
    (model_dir / "pack" / "mod.py").write_text("def go(data, context): return data\n")
    assert load("", "pack.mod:go")([{"body": 1}], context) == [{"body": 1}]


def test_handle_may_be_an_attribute_of_the_instance(load, context):
    code = """
    class Handler:
        def __init__(self):
            self.handle = lambda data, context: ["made"]

        def initialize(self, context):  # noqa: ARG002
            pass
    """
    assert load(code)([{}], context) == ["made"]


def test_a_class_cannot_be_the_entry_point_function(load):
    with pytest.raises(loader.InitializationFailed, match="TypeError"):
        load(CLASS, "my_handler:Handler")


def test_of_several_classes_the_only_one_with_handle_is_the_handler(load, context):
    assert load(f"{CLASS}\n    class Network: pass\n")([{"body": 1}], context) == [1]


def test_metrics_of_the_load_carry_the_name_of_the_model_and_one_id(load, context, caplog):
    caplog.set_level(logging.INFO)
    load("def handle(data, context):\n    context.metrics.add_counter('Loaded', 1)\n")
    assert "|#ModelName:mnist,Level:Model|" in caplog.text
    assert len(context.metrics.request_ids) == 36


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class A: pass\nclass B: pass\n", "Expected only one class in custom service code or a function"),
        ("import json\n", "must define a function handle or one class"),
        ("class A: pass\n", "Expect handle method in class"),
        ("class A:\n    def __init__(self): raise KeyError('config')\n", "KeyError: 'config'"),
    ],
)
def test_a_module_without_an_entry_point_says_what_is_missing(load, code, message):
    with pytest.raises(loader.EntryPointNotFound, match=message):
        load(code)


def test_a_class_without_initialize_cannot_be_loaded(load):
    with pytest.raises(loader.LoadError, match="initialize"):
        load("class A:\n    def handle(self, data, context): return data\n")


def test_what_initialisation_raises_is_named_and_chained(load):
    with pytest.raises(loader.InitializationFailed, match=r"FileNotFoundError: .*vocab.txt") as caught:
        load("def handle(data, context):\n    open('vocab.txt')\n")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_function_that_cannot_take_the_first_call_is_told_of_it(load):
    with pytest.raises(loader.InitializationFailed, match="is called once with data=None when"):
        load("def handle(data, context):\n    return [row['body'] for row in data]\n")


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('CUDA out of memory')"])
@pytest.mark.parametrize("place", ["    raise {}\n", "    pass\nraise {}\n"])
def test_memory_and_runtime_errors_pass_unchanged(load, error, place):
    code = "def handle(data, context):\n" + place.format(error)
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        load(code)
    assert not isinstance(caught.value, loader.LoadError)


def test_a_dependency_that_is_missing_is_the_error_that_is_seen(load):
    with pytest.raises(loader.HandlerImportFailed, match="No module named 'no_such_package'"):
        load("import no_such_package\n")


def test_an_import_error_of_the_handlers_own_is_the_error_that_is_seen(load):
    with pytest.raises(loader.HandlerImportFailed, match="pip install the thing"):
        load("raise ImportError('pip install the thing')\n")


def test_a_handler_that_cannot_be_parsed_is_reported(load):
    with pytest.raises(loader.HandlerImportFailed, match="SyntaxError"):
        load("def handle(:\n")


@pytest.mark.parametrize("handler", ["absent", "absent:go", "dir/absent.py", "pack.absent"])
def test_a_handler_that_is_nowhere_is_reported_as_such(load, handler):
    with pytest.raises(loader.HandlerImportFailed, match=r"the model archive has no module .*absent"):
        load("", handler)


@pytest.mark.parametrize("handler", ["", ":", ".py", "..relative"])
def test_a_handler_string_without_a_module_is_a_load_error(load, handler):
    with pytest.raises(loader.LoadError):
        load("", handler)


def test_a_built_in_handler_is_found_by_its_name(model_dir, context):
    with pytest.raises(loader.LoadError, match="system_properties"):  # found, and then without a model
        loader.load("base_handler", model_dir, context)


def test_a_built_in_handler_takes_no_function(model_dir, context):
    with pytest.raises(loader.HandlerImportFailed, match="no built-in handler text_classifier:handle"):
        loader.load("text_classifier:handle", model_dir, context)


def test_a_built_in_handler_names_the_package_it_needs(model_dir, context):
    try:
        import torchvision  # noqa: F401
    except Exception:
        with pytest.raises(loader.HandlerImportFailed, match="pip install torchvision"):
            loader.load("image_classifier", model_dir, context)


def test_a_handler_of_the_archive_wins_over_a_built_in_one(load, model_dir, context):
    (model_dir / "image_classifier.py").write_text("def handle(data, context): return ['own']\n")
    assert load("", "image_classifier")([{}], context) == ["own"]


def test_a_file_named_like_a_loaded_module_is_refused(load, model_dir):
    (model_dir / "json.py").write_text("def handle(data, context): return ['own']\n")
    with pytest.raises(loader.HandlerImportFailed, match=r"json\.py has the name of a module"):
        load("", "json")


def test_an_envelope_wraps_the_handler_but_not_its_initialisation(load, context):
    context.get_request_header = lambda idx, key: None
    handle = load("def handle(data, context):\n    return data\n", envelope="json")
    body = {"instances": [1, 2]}
    assert json.loads(handle([{"body": body}], context)[0]) == {"predictions": [1, 2]}


def test_an_unknown_envelope_is_a_load_error(load):
    with pytest.raises(loader.EnvelopeNotFound, match="service envelope nope"):
        load(CLASS, envelope="nope")


def test_a_replica_loads_a_handler_without_importing_torch(tmp_path):
    (tmp_path / "plain.py").write_text("def handle(data, context): return data\n")
    code = """
    import sys
    from pathlib import Path
    from types import SimpleNamespace
    from workers.handler import loader

    sys.path.insert(0, sys.argv[1])
    context = SimpleNamespace(model_name="m", metrics=None)
    assert loader.load("plain.py", Path(sys.argv[1]), context)([1], context) == [1]
    assert "torch" not in sys.modules
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == 0
