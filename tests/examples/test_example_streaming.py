import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("streaming", "model", "pack", "client")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


@pytest.fixture
def write(example, host, model):
    """The parts of a text with the seconds after which each arrived."""

    def read(word):
        began = time.monotonic()
        return [
            (time.monotonic() - began, part) for part in example.client.words(word, host.server.inference)
        ]

    return read


def test_words_arrive_while_the_text_is_written(example, write):
    arrivals = write("the")
    text = "".join(part for _, part in arrivals)
    words = text.split()
    assert words[0] == "the"
    assert (words[-1], words.count(".")) == (".", 1)
    assert set(words) <= set(example.model.WORDS)
    assert len(arrivals) > 2
    assert arrivals[-1][0] > arrivals[0][0]  # the handler pauses 50 ms before each word


def test_every_word_follows_as_in_the_original(example, write):
    words = "".join(part for _, part in write("queue")).split()
    original = f" {' '.join(example.model.TEXT.split())} "
    assert all(f" {a} {b} " in original for a, b in itertools.pairwise(words))


def test_clients_of_one_batch_get_their_own_text(write):
    beginnings = ["the", "a", "when", "no"]
    with ThreadPoolExecutor(len(beginnings)) as pool:
        texts = ["".join(part for _, part in arrivals) for arrivals in pool.map(write, beginnings)]
    assert [text.split()[0] for text in texts] == beginnings
    assert all(text.endswith(" .") for text in texts)


def test_headers_come_with_the_first_part_and_no_internal_ones(host, model):
    url = f"{host.server.inference}/predictions/{model}"
    with httpx.stream("POST", url, content="a", headers={"Content-Type": "text/plain"}) as answer:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "ts_stream_next" not in answer.headers


def test_a_word_that_the_model_does_not_know_is_refused_before_anything_is_sent(host, model):
    answer = host.predict(model, b"xylophone", "text/plain")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Send one of these words: ")
