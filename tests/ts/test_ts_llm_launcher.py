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


def test_the_other_engine_gets_its_own_section(arguments):
    config = llm_launcher.get_model_config(arguments("--engine", "trt_llm", "--startup_timeout", "7"))
    assert config["startupTimeout"] == 7
    assert config["handler"] == {
        "engine_dir": "org/name",
        "kv_cache_config": {"free_gpu_memory_fraction": 0.1},
    }
