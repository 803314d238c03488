from concurrent.futures import ThreadPoolExecutor

import httpx
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


@pytest.fixture(scope="module")
def decoder(example, host):
    return host.register(example.pack.pack(host.store, "decoder", "decoder"))


@pytest.fixture(scope="module")
def streamed_sums(example, host):
    return host.register(example.pack.pack(host.store, "streamed_sums", "streamed_sums"))


def test_the_decoder_spells_each_text(host, decoder):
    texts = ["a", "hello world", "continuous batching " * 20, "x" * 500, ""] * 4
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(lambda text: host.predict(decoder, text.encode()), texts))
    assert [answer.text for answer in answers] == [f"{text}." for text in texts]


def test_letters_arrive_one_by_one(host, decoder):
    url = f"{host.server.inference}/predictions/{decoder}"
    with httpx.stream("POST", url, content=b"abc", timeout=60) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "".join(answer.iter_text()) == "abc."


def test_the_parts_of_a_streamed_sum_are_five_and_0_ends_the_sequence(host, streamed_sums):
    def add(number):
        return host.predict(streamed_sums, b"%d" % number, headers={ID: "seq_0"}).text.split()

    assert [add(2), add(4)] == [["2"], ["6"]]
    assert [add(1), add(3)] == [["7"] * 5, ["10"] * 5]
    assert [add(-1), add(0)] == [["10"], ["10"]]


def test_each_streamed_sum_is_that_of_its_own_sequence(host, streamed_sums):
    def run(name):
        headers = {ID: name}
        return [host.predict(streamed_sums, b"%d" % n, headers=headers).text.split() for n in (1, 2, 3, 4)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, [f"own_{number}" for number in range(8)]))
    assert found == [[["1"] * 5, ["3"], ["6"] * 5, ["10"]]] * 8
