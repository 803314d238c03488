"""Text of a whole batch while `generate` of a transformers model still runs."""

import queue


class TextIteratorStreamerBatch:
    """Pass it as `streamer`; iterating gives a list of new texts, one per row, for each step.

    Like the streamer of transformers it holds back the end of a text until a word is complete.
    """

    def __init__(self, tokenizer, batch_size=1, skip_prompt=False, timeout=None, **decode_kwargs):
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.skip_prompt = skip_prompt
        self.timeout = timeout
        self.decode_kwargs = decode_kwargs
        self.text_queue = queue.SimpleQueue()
        self._reset()

    def put(self, value):
        """New tokens: first the prompts (two dimensions), then one token per row."""
        prompt, self._prompt_is_next = self._prompt_is_next, False
        if prompt and self.skip_prompt:
            return
        rows = value.tolist()
        for tokens, row in zip(self._tokens, rows, strict=True):
            tokens.extend(row if isinstance(row, list) else [row])
        self.on_finalized_text([self._take(row, final=False) for row in range(self.batch_size)])

    def end(self):
        """Emits the texts held back, then ends the iteration."""
        self.on_finalized_text(
            [self._take(row, final=True) for row in range(self.batch_size)], stream_end=True
        )
        self._reset()

    def on_finalized_text(self, text, stream_end=False):
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self):
        return self

    def __next__(self):
        texts = self.text_queue.get(timeout=self.timeout)
        if texts is None:
            raise StopIteration
        return texts

    def _reset(self):
        self._tokens = [[] for _ in range(self.batch_size)]
        self._printed = [0] * self.batch_size
        self._prompt_is_next = True

    def _take(self, row, final):
        """The row's complete text that no step has returned yet."""
        text = self.tokenizer.decode(self._tokens[row], **self.decode_kwargs)
        start = self._printed[row]
        if final or text.endswith("\n"):
            self._tokens[row], self._printed[row] = [], 0
            return text[start:]
        end = len(text) if text and _stands_alone(text[-1]) else text.rfind(" ") + 1
        self._printed[row] = max(start, end)
        return text[start:end]


def _stands_alone(character):
    """Chinese, Japanese and Korean characters need no space to be complete."""
    return 0x3400 <= ord(character) <= 0x9FFF or 0xF900 <= ord(character) <= 0xFAFF
