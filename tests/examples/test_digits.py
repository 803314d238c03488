"""The digits example: what is served is what the model says when it is called directly."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from support import RunningServer

import marq

EXAMPLE = Path(__file__).parents[2] / "examples/digits"
MODULES = ("model", "handler", "train", "pack")
EPOCHS, IMAGES = 4, 50

pytest.importorskip("sklearn")


@dataclass(frozen=True)
class Served:
    server: RunningServer
    images: list[bytes]
    own: list[int]  # what the model itself reads


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The example's modules as its scripts import them; their plain names are free again afterwards."""
    _forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        yield {name: importlib.import_module(name) for name in MODULES}
    _forget()


def _forget() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def served(example, start_server, tmp_path_factory) -> Served:
    train, store = example["train"], tmp_path_factory.mktemp("store")
    training, held_out = train.load()
    network = train.train(training, EPOCHS)
    example["pack"].pack(network, store)
    some = train.Digits(held_out.images[:IMAGES], held_out.labels[:IMAGES])
    server = start_server(store, ["digits.mar"], job_queue_size=1000)
    server.wait_until_ready("digits", replicas=2)
    own = train.predict(network, some)
    assert train.accuracy(own, some.labels) > 0.5  # a few epochs are enough to tell answers apart
    return Served(server, some.images, own)


def test_training_is_the_same_on_every_run(example):
    train = example["train"]
    training, held_out = train.load()
    few = train.Digits(training.images[:200], training.labels[:200])

    first, second = (train.train(few, epochs=1)(held_out.tensors()) for _ in range(2))

    assert first.equal(second)


def test_predictions_are_the_model_s_own(served):
    answers = [served.server.predict("digits", image).json() for image in served.images]

    assert [answer["digit"] for answer in answers] == served.own
    assert all(0 < answer["probability"] <= 1 for answer in answers)


def test_predictions_sent_as_a_form_are_too(served):
    url = f"{served.server.inference}/predictions/digits"

    answers = [httpx.post(url, files={"data": ("digit.png", image)}) for image in served.images[:5]]

    assert [answer.json()["digit"] for answer in answers] == served.own[:5]


def test_jobs_are_too(served):
    base = served.server.inference
    locations = [
        httpx.post(f"{base}/jobs/digits", content=image).headers["location"] for image in served.images
    ]

    answers = [httpx.get(f"{base}{location}/result?wait=30", timeout=60) for location in locations]

    assert [answer.json()["digit"] for answer in answers] == served.own


def test_a_producer_s_jobs_are_too(served):
    with marq.Client(served.server.redis_url) as client:
        jobs = client.submit_many("digits", served.images)

        digits = [job.result(timeout=60).json()["digit"] for job in jobs]

    assert digits == served.own


def test_what_is_no_image_fails_alone(served):
    # Given a batch of images with one that is none
    rows = [*served.images[:5], b"no image"]
    with marq.Client(served.server.redis_url) as client:
        # When they are submitted together
        *good, bad = client.submit_many("digits", rows)

        # Then it gets a 400, and its neighbours their digits
        assert [job.result(timeout=60).json()["digit"] for job in good] == served.own[:5]
        with pytest.raises(marq.client.PredictionFailed, match="status 400"):
            bad.result(timeout=60)
