import httpx
import pytest

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def register(host):
    registered = []

    def register(archive):
        url = f"{host.server.management}/workflows"
        httpx.post(url, params={"url": archive.name}, timeout=180).raise_for_status()
        registered.append(archive.stem)

    yield register
    for name in registered:
        httpx.delete(f"{host.server.management}/workflows/{name}", timeout=150).raise_for_status()


def run(host, workflow, **options):
    return httpx.post(f"{host.server.inference}/wfpredict/{workflow}", timeout=60, **options)


def test_two_classifiers_vote_on_digits_that_they_have_not_seen(load_example, host, register):
    example = load_example("workflows/digits_vote", "pack").pack
    register(example.pack(host.store))
    pixels, digits = example.images()
    unseen = range(0, 50 * example.EVERY, example.EVERY)
    answers = [run(host, "digits_vote", json=pixels[number]).json() for number in unseen]
    right = sum(answer["digit"] == digits[number] for answer, number in zip(answers, unseen, strict=True))
    assert right >= 45
    assert all(set(answer["votes"]) == {"logistic", "nearest"} for answer in answers)
    assert run(host, "digits_vote", json=[1, 2]).json()["message"] == "Error executing scale"


def test_sentences_get_a_topic(load_example, host, register):
    register(load_example("workflows/topic", "sentences", "pack").pack.pack(host.store))
    sentences = {
        "food": "fry the garlic and the onion in fresh butter",
        "sport": "our players won the final and the fans cheered",
        "weather": "rain and snow are expected in the mountains",
    }
    for topic, sentence in sentences.items():
        answer = run(host, "topic", content=sentence, headers={"Content-Type": "text/plain"})
        assert answer.json()["topic"] == topic
