"""The JSON of answers, whole or as server-sent events."""

import json
import time

from .logprobs import chat_logprobs, completion_logprobs

DONE = "data: [DONE]\n\n"


class Answer:
    """The answer to one request; as a stream, it remembers the part of it that has been sent."""

    kind = chunk_kind = "text_completion"

    def __init__(self, request_id, model):
        self._id, self._model = request_id, model
        self._created = int(time.time())
        self._sent_text = self._sent_tokens = 0

    def whole(self, step):
        return {**self._document(self.kind, [self._choice(step)]), "usage": usage(step)}

    def event(self, step):
        """Everything that is new in this step."""
        document = self._document(self.chunk_kind, [self._new_choice(step)])
        self._sent_text, self._sent_tokens = len(step.text), len(step.tokens)
        return _event(document)

    def usage_event(self, step):
        return _event({**self._document(self.chunk_kind, []), "usage": usage(step)})

    def _document(self, kind, choices):
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _choice(self, step):
        return self._make_choice({"text": step.text}, self._logprobs(step.tokens, 0), step)

    def _new_choice(self, step):
        new = self._logprobs(step.tokens[self._sent_tokens :], self._sent_text)
        return self._make_choice(self._new_content(step.text[self._sent_text :]), new, step)

    def _make_choice(self, content, logprobs, step):
        return {"index": 0, **content, **logprobs, "finish_reason": step.finish_reason}

    def _new_content(self, text):
        return {"text": text}

    def _logprobs(self, tokens, offset):
        return {"logprobs": completion_logprobs(tokens, offset)} if tokens else {}


class ChatAnswer(Answer):
    """The next message of a conversation."""

    kind, chunk_kind = "chat.completion", "chat.completion.chunk"
    _begun = False

    def _choice(self, step):
        message = {"role": "assistant", "content": step.text}
        return self._make_choice({"message": message}, self._logprobs(step.tokens, 0), step)

    def _new_content(self, text):
        """Clients join the fields of all deltas, so only the first one names the role."""
        role = {} if self._begun else {"role": "assistant"}
        self._begun = True
        return {"delta": {**role, "content": text}}

    def _logprobs(self, tokens, offset):
        return {"logprobs": chat_logprobs(tokens)} if tokens else {}


def usage(step):
    return {
        "prompt_tokens": step.prompt_tokens,
        "completion_tokens": step.completion_tokens,
        "total_tokens": step.prompt_tokens + step.completion_tokens,
    }


def _event(document):
    return f"data: {json.dumps(document)}\n\n"
