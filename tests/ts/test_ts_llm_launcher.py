"""What is served for a language model, without an engine to run it."""

import pytest

from archive.reader import describe
from ts import llm_launcher


@pytest.fixture
def arguments(tmp_path):
    def make(*more):
        given = ["--model_store", str(tmp_path), "--model_name", "llm", "--model_id", "org/name", *more]
        return llm_launcher.parser().parse_args(given)

    return make


def test_a_model_directory_is_there_while_it_is_served(arguments, tmp_path):
    with llm_launcher.create_mar_file(arguments("--vllm_engine.max_model_len", "100")) as path:
        found = describe(tmp_path / "llm")
        assert path == str(tmp_path / "llm")
        assert (found.manifest.model_name, found.manifest.handler) == ("llm", "vllm_handler")
        assert (found.config.async_communication, found.config.device_type) == (True, "gpu")
        section = found.config.raw["handler"]
        assert (section["model_path"], section["vllm_engine_config"]["max_model_len"]) == ("org/name", 100)
        assert "download_dir" not in section["vllm_engine_config"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_the_user_is_never_replaced(arguments, tmp_path):
    (tmp_path / "llm/MAR-INF").mkdir(parents=True)
    with pytest.raises(FileExistsError), llm_launcher.create_mar_file(arguments()):
        pass
    assert (tmp_path / "llm/MAR-INF").is_dir()


def test_a_directory_of_the_user_that_is_empty_stays(arguments, tmp_path):
    (tmp_path / "llm").mkdir()
    with pytest.raises(FileExistsError, match="--model_name"), llm_launcher.create_mar_file(arguments()):
        pass
    assert (tmp_path / "llm").is_dir()


def test_a_model_store_that_was_not_there_is_deleted_with_its_model(arguments, tmp_path):
    given = arguments("--model_store", str(tmp_path / "new/store"))
    with llm_launcher.create_mar_file(given) as path:
        assert path == str(tmp_path / "new/store/llm")
    assert list(tmp_path.iterdir()) == []


def test_a_model_store_that_holds_something_else_by_then_stays(arguments, tmp_path):
    with llm_launcher.create_mar_file(arguments("--model_store", str(tmp_path / "store"))):
        (tmp_path / "store/other.mar").write_text("")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["other.mar"]


def test_the_directory_of_a_launcher_that_was_killed_is_replaced(arguments, tmp_path):
    left = llm_launcher.create_mar_file(arguments("--engine", "trt_llm"))
    left.__enter__()
    with llm_launcher.create_mar_file(arguments()):
        assert describe(tmp_path / "llm").manifest.handler == "vllm_handler"
    assert list(tmp_path.iterdir()) == []


def test_paths_are_whole_because_replicas_run_elsewhere(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    given = arguments("--model_id", "weights", "--vllm_engine.download_dir", "cache")
    section = llm_launcher.get_model_config(given)["handler"]
    assert section["model_path"] == str(tmp_path / "weights")
    assert section["vllm_engine_config"]["download_dir"] == str(tmp_path / "cache")
    assert section["vllm_engine_config"]["served_model_name"] == ["weights", "llm"]


def test_options_that_only_the_engine_knows_are_passed_on(tmp_path):
    given = ["--vllm_engine.quantization=awq", "--vllm_engine.enable_lora", "--vllm_engine.swap_space", "4"]
    config = llm_launcher.get_model_config(llm_launcher.read_options(given))
    engine = config["handler"]["vllm_engine_config"]
    assert [engine[name] for name in ("quantization", "enable_lora", "swap_space")] == ["awq", True, 4]


def test_the_other_engine_gets_its_own_section(arguments):
    config = llm_launcher.get_model_config(arguments("--engine", "trt_llm", "--startup_timeout", "7"))
    assert config["startupTimeout"] == 7
    assert config["handler"] == {
        "engine_dir": "org/name",
        "kv_cache_config": {"free_gpu_memory_fraction": 0.1},
    }
