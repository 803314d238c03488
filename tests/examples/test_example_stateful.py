from concurrent.futures import ThreadPoolExecutor

import pytest

ID = "ts_request_sequence_id"


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("stateful", "pack")


@pytest.fixture(scope="module")
def sums(example, host):
    return host.register(example.pack.pack(host.store))


def test_each_sequence_has_its_running_sum(host, sums):
    def run(name):
        return [host.predict(sums, b"%d" % number, headers={ID: name}).text for number in (1, 2, 3, 4, 5)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, [f"seq_{number}" for number in range(8)]))
    assert found == [["1", "3", "6", "10", "15"]] * 8


def test_the_answer_names_a_sequence_that_the_server_has_begun(host, sums):
    first = host.predict(sums, b"20")
    name = first.headers[ID]
    assert name.startswith("ts-seq-")
    assert host.predict(sums, b"22", headers={ID: name}).text == "42"
