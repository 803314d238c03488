"""What the archive does with a batch of requests: sentences in, vectors of 384 numbers out."""

from pathlib import Path

import torch
from wordpiece import WordPiece

from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException


class EmbeddingHandler(BaseHandler):
    """The dot product of two answers is the similarity of their sentences, from -1 to 1."""

    def initialize(self, context):
        super().initialize(context)
        self.tokenizer = WordPiece(Path(context.system_properties["model_dir"]) / "vocab.txt")

    def preprocess(self, data):
        """Ids and mask; short sentences are filled up to the longest one."""
        rows = [torch.tensor(self.tokenizer.ids(text_of(row))) for row in data]
        masks = [torch.ones(len(row)) for row in rows]
        return [torch.nn.utils.rnn.pad_sequence(part, batch_first=True) for part in (rows, masks)]

    def inference(self, data):
        with torch.inference_mode():
            return self.model(*(part.to(self.device) for part in data))


def text_of(row) -> str:
    """A text, or a JSON string. A PredictionException answers the whole batch."""
    text = row.get("data") or row.get("body")
    if isinstance(text, bytes | bytearray):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        raise PredictionException("Send a sentence, as text or as a JSON string.", 400)
    return text
