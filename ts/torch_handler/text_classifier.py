"""Probabilities of the classes of a text."""

import torch
from torch.nn.functional import softmax

from ts.handler_utils.text_utils import ngrams_iterator
from ts.handler_utils.timer import timed
from ts.utils.util import map_class_to_label

from ._require import require
from .text_handler import TextHandler


class TextClassifier(TextHandler):
    """For models that take the ids of n-grams and the offset of each text, as `EmbeddingBag` does."""

    ngrams = 2

    @timed
    def preprocess(self, data):
        """`(ids, tokens)`; for several requests the ids follow each other, and tokens is a list of lists."""
        rows = [self._tokens(row.get("data") or row.get("body") or "") for row in data]
        ids = [self._id(gram) for tokens in rows for gram in ngrams_iterator(tokens, self.ngrams)]
        return torch.as_tensor(ids, dtype=torch.long, device=self.device), rows[0] if len(rows) == 1 else rows

    def _tokens(self, text):
        self.input_text = text.decode("utf-8") if isinstance(text, (bytes, bytearray)) else text
        text = self._remove_html_tags(self.input_text).lower()
        text = self._remove_accented_characters(self._expand_contractions(text))
        return self._tokenize(self._remove_punctuation(text))

    def _id(self, gram):
        try:
            return self.source_vocab[gram]
        except KeyError:
            return self.source_vocab["<unk>"]

    @timed
    def inference(self, data, *args, **kwargs):
        ids, tokens = data
        return super().inference(ids, self._offsets(tokens))

    def _offsets(self, tokens):
        """The offset of each text in the ids."""
        rows = tokens if tokens and isinstance(tokens[0], list) else [tokens]
        offsets = [0]
        for row in rows[:-1]:
            offsets.append(offsets[-1] + sum(max(0, len(row) - size) for size in range(self.ngrams)))
        return torch.tensor(offsets, device=self.device)

    @timed
    def postprocess(self, data):
        return map_class_to_label(softmax(data, dim=-1).tolist(), self.mapping)

    def get_insights(self, text_preprocess, _, target=0):
        """The attribution of each part of the embedding to the class `target`."""
        ids, tokens = text_preprocess
        reference = require("captum.attr", "captum").TokenReferenceBase()
        baseline = reference.generate_reference(ids.size(0), self.device).squeeze(0)
        attributions = self.lig.attribute(
            ids, baselines=baseline, additional_forward_args=self._offsets(tokens), target=target
        )
        importances = self.summarize_attributions(attributions)
        return [{"importances": importances.tolist(), "words": self.get_word_token(tokens)}]
