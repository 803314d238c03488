import zlib

import pytest
import torch

import marq

IMAGES, PART = 12, 4


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("micro_batching", "model", "handler", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


@pytest.fixture(scope="module")
def images(example):
    side = example.handler.SIDE
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, side, side)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) // torch.arange(
        1, IMAGES + 1, dtype=torch.uint8
    ).reshape(-1, 1, 1)


def facts(answer):
    return [answer[name] for name in ("brightness", "contrast", "edges")]


def test_the_parts_of_a_batch_come_back_in_order(example, host, model, images):
    own = example.model.ImageFacts()(images / 255).tolist()
    with marq.Client(host.server.redis_url) as client:
        jobs = client.submit_many(model, [zlib.compress(image.numpy().tobytes()) for image in images])
        answers = [job.result(timeout=60).json() for job in jobs]
    assert [facts(answer) for answer in answers] == [pytest.approx(row, abs=1e-3) for row in own]
    assert max(answer["part"] for answer in answers) > 0  # the batch was cut


def test_a_single_image_is_one_part(host, model, images):
    answer = host.predict(model, zlib.compress(bytes(images[0].numel()))).json()
    assert (answer["part"], facts(answer)) == (0, [0, 0, 0])


def test_a_step_that_fails_fails_the_batch_and_the_next_one_is_answered(host, model, images):
    assert host.predict(model, b"no image").status_code == 503
    assert host.predict(model, zlib.compress(bytes(images[0].numel()))).status_code == 200
