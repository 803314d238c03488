"""Log probabilities of generated tokens, in the forms of OpenAI's two routes."""

from itertools import accumulate

LEAST = -9999.0  # JSON has no infinity


def completion_logprobs(tokens, offset):
    """`offset`: where the first of these tokens begins in the text of the answer."""
    lengths = [len(token.text) for token in tokens]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [
            {text: _finite(logprob) for text, logprob in token.alternatives} for token in tokens
        ],
        "text_offset": list(accumulate(lengths[:-1], initial=offset)),
    }


def chat_logprobs(tokens):
    return {
        "content": [
            {
                **_chat_entry(token.text, token.logprob),
                "top_logprobs": [_chat_entry(*alternative) for alternative in token.alternatives],
            }
            for token in tokens
        ]
    }


def _chat_entry(text, logprob):
    return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}


def _finite(logprob):
    return max(logprob, LEAST)
