"""Text in: cleaning, tokens, and a vocabulary file next to the model."""

import re
import string
import unicodedata
from abc import ABC
from functools import cached_property
from pathlib import Path

import torch
from torch.nn.functional import softmax

from ts.handler_utils.text_utils import get_tokenizer
from ts.utils.util import CLEANUP_REGEX

from . import _weights
from ._require import require
from .base_handler import BaseHandler
from .contractions import CONTRACTION_MAP

_LONGEST_FIRST = sorted(CONTRACTION_MAP, key=len, reverse=True)
CONTRACTIONS_PATTERN = re.compile("|".join(map(re.escape, _LONGEST_FIRST)), re.IGNORECASE)
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextHandler(BaseHandler, ABC):
    """Subclasses find `source_vocab` and `tokenizer` ready after `initialize`."""

    def __init__(self):
        super().__init__()
        self.source_vocab = None
        self.tokenizer = get_tokenizer("basic_english")
        self.input_text = None

    def initialize(self, context):
        super().initialize(context)
        self.initialized = False
        self.source_vocab = _weights.read_saved(self.get_source_vocab_path(context), self.device)
        self.initialized = True

    def get_source_vocab_path(self, ctx):
        model_dir = Path(ctx.system_properties["model_dir"])
        path = model_dir / (ctx.manifest["model"].get("sourceVocab") or "source_vocab.pt")
        if not path.is_file():
            raise Exception(
                "Missing the source_vocab file. Refer default handler documentation for details on using "
                "text_handler."
            )
        return str(path)

    @cached_property
    def lig(self):
        attribution = require("captum.attr", "captum")
        return attribution.LayerIntegratedGradients(self.model, self.model.embedding)

    def _remove_html_tags(self, text):
        return CLEANUP_REGEX.sub("", text)

    def _expand_contractions(self, text):
        return CONTRACTIONS_PATTERN.sub(_expanded, text)

    def _remove_accented_characters(self, text):
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")

    def _remove_punctuation(self, text):
        return text.translate(_WITHOUT_PUNCTUATION)

    _remove_puncutation = _remove_punctuation

    def _tokenize(self, text):
        return self.tokenizer(text)

    def get_word_token(self, input_tokens):
        """The words of tokens; byte-pair tokens lose the mark of a word's beginning."""
        return [token.replace("\u0120", "") for token in input_tokens]

    def summarize_attributions(self, attributions):
        """Importances that add up to one for each row."""
        weights = softmax(attributions, dim=-1)
        return weights / torch.norm(weights.sum(dim=1))


def _expanded(match):
    found = match.group(0)
    text = CONTRACTION_MAP[found.lower()]
    return text.capitalize() if found[0].isupper() else text
