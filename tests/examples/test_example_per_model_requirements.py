import pytest


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("per_model_requirements", "make_wheel", "pack")


@pytest.fixture(scope="module")
def server(example, start_server, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    assert [path.name for path in example.pack.pack(store)] == ["characters.mar", "words.mar"]
    server = start_server(store, "all", install_py_dep_per_model="true")
    for model in example.pack.VERSIONS:
        server.wait_until_ready(model)
    return server


@pytest.mark.parametrize(("model", "version", "count"), [("characters", "1.0", 11), ("words", "2.0", 2)])
def test_each_model_uses_its_own_version_of_the_package(server, model, version, count):
    answer = server.predict(model, b"hello world", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()) == (200, {"tinytext": version, "count": count})


def test_the_archives_are_the_same_each_time(example, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = [path.read_bytes() for path in example.pack.pack(tmp_path)]
    assert [path.read_bytes() for path in example.pack.pack(tmp_path)] == first
