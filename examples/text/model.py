"""The network: the mean of the words' vectors, and a linear layer."""

from torch import Tensor, nn

WORDS, CLASSES = 512, 3  # WORDS: how many words and pairs of words the vocabulary may hold


class TopicNet(nn.Module):
    """What the built-in `text_classifier` expects: ids and offsets in, an attribute `embedding`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(WORDS, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        return self.head(self.embedding(ids, offsets))
