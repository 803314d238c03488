"""Trains the network on a few sentences and packs it as topics.mar.

python examples/text/pack.py [model_store]
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from model import WORDS, TopicNet
from topics import TOPICS

from archive.packing.writer import ArchiveSpec, write
from ts.handler_utils.text_utils import get_tokenizer, ngrams_iterator

HERE = Path(__file__).resolve().parent
EPOCHS = 60
NAMES = sorted(TOPICS)
tokenize = get_tokenizer("basic_english")


def grams(sentence: str) -> list[str]:
    """Words and pairs of words, as the handler makes them of a request's text."""
    return list(ngrams_iterator(tokenize(sentence), 2))


def vocabulary() -> dict[str, int]:
    found = sorted({gram for sentences in TOPICS.values() for text in sentences for gram in grams(text)})
    return {gram: index for index, gram in enumerate(["<unk>", *found[: WORDS - 1]])}


def train(vocab: dict[str, int]) -> TopicNet:
    """The same weights on every run."""
    torch.manual_seed(0)
    network = TopicNet()
    rows = [[vocab.get(gram, 0) for gram in grams(text)] for name in NAMES for text in TOPICS[name]]
    labels = torch.tensor([index for index, name in enumerate(NAMES) for _ in TOPICS[name]])
    ids = torch.tensor([word for row in rows for word in row])
    offsets = torch.tensor([0, *(len(row) for row in rows[:-1])]).cumsum(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(ids, offsets), labels).backward()
        optimizer.step()
    return network.eval()


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    vocab = vocabulary()
    with TemporaryDirectory() as scratch:
        weights, words, names = (
            Path(scratch, name) for name in ("topics.pth", "source_vocab.pt", "index_to_name.json")
        )
        torch.save(train(vocab).state_dict(), weights)
        torch.save(vocab, words)
        names.write_text(json.dumps({str(index): name for index, name in enumerate(NAMES)}))
        return write(
            ArchiveSpec(
                model_name="topics",
                version="1.0",
                model_file=str(HERE / "model.py"),
                serialized_file=str(weights),
                handler="text_classifier",
                extra_files=(str(words), str(names)),
                config_file=str(HERE / "model-config.yaml"),
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
