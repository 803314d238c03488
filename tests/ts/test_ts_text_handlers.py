import sys
import textwrap

import pytest
import torch

from ts.handler_utils.text_utils import get_tokenizer, ngrams_iterator
from ts.torch_handler._weights import WeightsError
from ts.torch_handler.contractions import CONTRACTION_MAP
from ts.torch_handler.text_classifier import TextClassifier

WORDS = ["<unk>", "the", "cat", "is", "not", "good", "it", "cannot", "the cat", "cat is"]
TEXT = "<p>The Cat isn't g\u00f6od; it can't!</p>"


@pytest.fixture
def text_net(model_dir):
    code = """
    import torch

    class TextNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.EmbeddingBag(10, 4)
            self.linear = torch.nn.Linear(4, 3)

        def forward(self, text, offsets):
            return self.linear(self.embedding(text, offsets))
    """
    (model_dir / "text_net.py").write_text(textwrap.dedent(code))
    import text_net

    torch.manual_seed(0)
    net = text_net.TextNet()
    torch.save(net.state_dict(), "weights.pt")
    torch.save({word: index for index, word in enumerate(WORDS)}, "source_vocab.pt")
    return net.eval()


@pytest.fixture
def handler(text_net, make_context):
    made = TextClassifier()
    made.initialize(make_context(serializedFile="weights.pt", modelFile="text_net.py"))
    return made


def test_a_text_becomes_the_ids_of_its_tokens_and_pairs(handler):
    ids, tokens = handler.preprocess([{"body": TEXT.encode()}])
    assert tokens == ["the", "cat", "is", "not", "good", "it", "cannot"]
    assert ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0]


def test_all_classes_get_a_probability(handler, make_context):
    (answer,) = handler.handle([{"data": TEXT}], make_context())
    assert list(answer) == ["0", "1", "2"]
    assert sum(answer.values()) == pytest.approx(1)


def test_texts_of_a_batch_get_the_answers_they_get_alone(handler, make_context):
    texts = [TEXT, "", "cat", "the cat is good"]
    alone = [handler.handle([{"data": text}], make_context())[0] for text in texts]
    together = handler.handle([{"data": text} for text in texts], make_context(rows=4))
    assert [list(answer.values()) for answer in together] == [
        pytest.approx(list(answer.values())) for answer in alone
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_gives_the_same_answer(handler, text_net, make_context):
    torch.jit.save(torch.jit.script(text_net), "script.pt")
    scripted = TextClassifier()
    scripted.initialize(make_context(serializedFile="script.pt"))
    answers = [each.handle([{"data": TEXT}], make_context())[0] for each in (handler, scripted)]
    assert answers[0] == pytest.approx(answers[1])


def test_an_explanation_has_importances_and_words(handler, make_context):
    context = make_context(headers={"explain": "True"})
    (answer,) = handler.handle([{"data": TEXT, "target": 1}], context)
    assert answer["words"] == ["the", "cat", "is", "not", "good", "it", "cannot"]
    assert sum(answer["importances"][0]) == pytest.approx(1)


def test_captum_is_only_imported_for_explanations(handler, make_context):
    assert "lig" not in vars(handler)
    handler.handle([{"data": TEXT}], make_context(headers={"explain": "True"}))
    assert "captum" in sys.modules


def test_the_vocabulary_may_have_another_name(text_net, make_context, model_dir):
    (model_dir / "source_vocab.pt").rename(model_dir / "words.pt")
    description = {"serializedFile": "weights.pt", "modelFile": "text_net.py"}
    with pytest.raises(Exception, match="Missing the source_vocab file"):
        TextClassifier().initialize(make_context(**description))
    handler = TextClassifier()
    handler.initialize(make_context(sourceVocab="words.pt", **description))
    assert handler.source_vocab["cat"] == 2


def test_a_pickled_vocabulary_object_is_refused_by_name(text_net, make_context):
    torch.save(text_net, "source_vocab.pt")
    with pytest.raises(WeightsError, match=r"source_vocab\.pt holds pickled Python objects"):
        TextClassifier().initialize(make_context(serializedFile="weights.pt", modelFile="text_net.py"))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("It's a cat", "It is a cat"),
        ("he won't, y'all'd've", "he will not, you all would have"),
        ("they couldn't've", "they could not have"),
        ("I'm sure", "I am sure"),
    ],
)
def test_contractions_are_expanded(text, expanded):
    assert TextClassifier()._expand_contractions(text) == expanded


def test_the_contractions_are_in_lower_case():
    assert all(short == short.lower() for short in CONTRACTION_MAP)
    assert len(CONTRACTION_MAP) > 100


def test_basic_english_splits_marks_off():
    tokenize = get_tokenizer("basic_english")
    assert " ".join(tokenize('Hello, "World"! It\'s.<br />x;y')) == "hello , world ! it ' s . x y"
    assert get_tokenizer(None)("a  b") == ["a", "b"]
    assert get_tokenizer(len) is len


@pytest.mark.parametrize("arguments", [("magic",), ("basic_english", "de")])
def test_other_tokenizers_and_languages_are_refused(arguments):
    with pytest.raises(ValueError, match="basic_english"):
        get_tokenizer(*arguments)


def test_ngrams_come_after_the_tokens():
    assert list(ngrams_iterator(["a", "b", "c"], 3)) == ["a", "b", "c", "a b", "b c", "a b c"]
