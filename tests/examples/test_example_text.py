import pytest

import marq

SENTENCES = {
    "food": "fry the garlic and the onion in fresh butter",
    "sport": "our players won the final and the fans cheered",
    "weather": "rain and snow are expected in the mountains",
}


@pytest.fixture(scope="module")
def model(load_example, host):
    return host.register(load_example("text", "model", "topics", "pack").pack.pack(host.store))


@pytest.mark.parametrize("topic", SENTENCES)
def test_the_topic_of_a_new_sentence_is_found(host, model, topic):
    answer = host.predict(model, SENTENCES[topic].encode(), "text/plain").json()
    assert max(answer, key=answer.get) == topic
    assert set(answer) == set(SENTENCES)
    assert sum(answer.values()) == pytest.approx(1)


def test_case_marks_and_tags_do_not_matter(host, model):
    plain, adorned = (
        host.predict(model, text.encode(), "text/plain").json()
        for text in ("rain and snow are expected", "<b>Rain</b> and SNOW, are expected!")
    )
    assert adorned == plain


def test_unknown_words_get_an_answer_too(host, model):
    answer = host.predict(model, b"qwerty asdf", "text/plain")
    assert answer.status_code == 200


def test_sentences_of_a_batch_get_their_own_answers(host, model):
    with marq.Client(host.server.redis_url) as client:
        rows = [sentence.encode() for sentence in SENTENCES.values()] * 4
        jobs = client.submit_many(model, rows, content_type="text/plain")
        answers = [job.result(timeout=60).json() for job in jobs]
    assert [max(answer, key=answer.get) for answer in answers] == list(SENTENCES) * 4
