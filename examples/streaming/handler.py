"""Sends each word as soon as the model has chosen it."""

import time

import torch
from model import END, WORDS

from ts.handler_utils.utils import send_intermediate_predict_response
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

MOST_WORDS = 200


class Writer(BaseHandler):
    """Takes a word to begin with, answers with a text that ends at the first full stop."""

    def initialize(self, context):
        super().initialize(context)
        self.pause_s = self.model_yaml_config["handler"]["pause_s"]  # as long as a large model would think

    def preprocess(self, data):
        return torch.tensor([_begin(row.get("data") or row.get("body")) for row in data])

    def inference(self, words):
        """Every part but the last one of each text is sent from here."""
        generator = torch.Generator().manual_seed(0)
        for row in range(len(words)):
            self.context.set_response_content_type(row, "text/plain; charset=utf-8")
        parts = [WORDS[word] for word in words]
        writing = torch.ones(len(words), dtype=torch.bool)
        for _ in range(MOST_WORDS):
            self._send(parts)
            time.sleep(self.pause_s)
            with torch.inference_mode():
                chances = self.model(words).softmax(dim=1)
            words = torch.where(writing, torch.multinomial(chances, 1, generator=generator).squeeze(1), words)
            parts = [f" {WORDS[word]}" if on else "" for word, on in zip(words, writing, strict=True)]
            writing &= words != END
            if not writing.any():
                break
        return parts

    def postprocess(self, parts):
        return parts

    def _send(self, parts):
        """One part for each request of the batch; an empty one for those whose text is complete."""
        context = self.context
        send_intermediate_predict_response(
            parts, context.request_ids, "Intermediate Prediction success", 200, context
        )


def _begin(text):
    text = text.decode() if isinstance(text, bytes | bytearray) else text
    if not isinstance(text, str) or text.strip() not in WORDS:
        raise PredictionException(f"Send one of these words: {' '.join(WORDS)}", 400)
    return WORDS.index(text.strip())
