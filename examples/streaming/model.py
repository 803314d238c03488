"""A language model as small as can be: which word follows which."""

import torch

TEXT = """
the queue holds what the clients ask and the replica takes what the queue holds . a batch is what
the replica takes at once . the model answers the batch and the gateway gives each client its answer
. when a replica dies the queue gives what it held to another replica . no answer is lost and no
client waits for nothing .
"""
WORDS = sorted(set(TEXT.split()))
END = WORDS.index(".")


class NextWord(torch.nn.Module):
    """Scores of all words for the word that follows."""

    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Embedding(len(WORDS), len(WORDS))

    def forward(self, words):
        return self.scores(words)
