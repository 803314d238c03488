"""A tokenizer of words, and the sentences that the engines here say: mostly those of the prompt."""

from collections.abc import Iterator, Sequence
from typing import Any

BEGIN = "<s>"  # a tokenizer puts it before a text, and so does a chat template


class Tokenizer:
    """Token ids are the places of words in a list."""

    def __init__(self) -> None:
        self._words = [BEGIN]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        words = text.split()
        self._words += [word for word in words if word not in self._words]
        return [0] * add_special_tokens + [self._words.index(word) for word in words]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self._words[token] for token in tokens)

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, chat_template: str | None = None, **_options: Any
    ) -> str:
        said = " ".join(message["content"] for message in messages)
        return " ".join(filter(None, [BEGIN, chat_template, said]))


def continuation(tokens: list[int], tokenizer: Tokenizer, facts: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The prompt's words; the facts that it names, as they are now; for "endless", words without an end."""
    prompt = tokenizer.decode(tokens[1:] if tokens[:1] == [0] else tokens)
    if prompt == "endless":
        while True:
            yield "word"
    elif prompt in facts:
        yield from [f"{name}={value}" for name, value in facts[prompt].items()]
    else:
        yield from prompt.split()


def grow(words: Iterator[str], limit: int | None) -> Iterator[tuple[list[str], str | None]]:
    """The words so far, one more each time, and with the last the reason of the end."""
    said: list[str] = []
    following = next(words, None)
    while following is not None:
        said.append(following)
        following = next(words, None)
        cut_off = len(said) == limit
        yield said, "stop" if following is None else "length" if cut_off else None
        if cut_off:
            return
