import io
import wave

import httpx
import pytest
import torch

import marq


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("sound", "model", "handler", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


def wav(hertz, rate=16_000, channels=1, seconds=0.6, loudness=0.5):
    time = torch.arange(int(rate * seconds)) / rate
    samples = (loudness * torch.sin(2 * torch.pi * hertz * time) * 32767).to(torch.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, 2, rate, 0, "NONE", ""))
        out.writeframes(samples.repeat_interleave(channels).numpy().tobytes())
    return file.getvalue()


def test_a_tone_is_named(host, model):
    answer = host.predict(model, wav(440)).json()
    assert answer == {"note": "A4", "hertz": 440.0, "loudness": pytest.approx(0.5, abs=0.01)}


@pytest.mark.parametrize("note", [48, 55, 60, 71, 83])
def test_tones_of_other_rates_and_in_stereo_are_named(example, host, model, note):
    content = wav(example.model.hertz_of(note), rate=44_100, channels=2)
    assert host.predict(model, content).json()["note"] == example.model.name_of(note)


def test_a_file_in_a_form_is_answered(host, model):
    url = f"{host.server.inference}/predictions/{model}"
    answer = httpx.post(url, files={"data": ("c4.wav", wav(261.63))}, timeout=60)
    assert answer.json()["note"] == "C4"


def test_a_short_clip_is_filled_up(host, model):
    assert host.predict(model, wav(440, seconds=0.2)).json()["note"] == "A4"


def test_what_is_no_sound_fails_alone(host, model):
    with marq.Client(host.server.redis_url) as client:
        first, bad, last = client.submit_many(model, [wav(440), b"no sound", wav(220)])
        assert [job.result(timeout=60).json()["note"] for job in (first, last)] == ["A4", "A3"]
        with pytest.raises(marq.client.PredictionFailed, match="status 400"):
            bad.result(timeout=60)


@pytest.mark.parametrize("content", [b"", wav(440)[:30], wav(440, seconds=0)])
def test_broken_files_are_bad_requests(host, model, content):
    answer = host.predict(model, content)
    assert answer.status_code == 400
    assert "Send a WAV file" in answer.json()["error"]
