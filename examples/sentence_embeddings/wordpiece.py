"""Text to the ids that MiniLM was trained with: lower case, no accents, pieces of words."""

import string
import unicodedata
from pathlib import Path

MAX_IDS = 256  # longer texts are cut, as sentence-transformers does
MAX_WORD = 100  # characters; longer words are unknown
SPACES = "\t\n\r"
HAN = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """The tokenizer of a `vocab.txt`: one piece on each line; its number is its id."""

    def __init__(self, vocab: Path) -> None:
        lines = vocab.read_text(encoding="utf-8").split("\n")
        self._ids = {piece: index for index, piece in enumerate(lines) if piece}
        self._unknown, self._begin, self._end = (self._ids[name] for name in ("[UNK]", "[CLS]", "[SEP]"))

    def ids(self, text: str) -> list[int]:
        found = [piece for word in words(text) for piece in self._pieces(word)]
        return [self._begin, *found[: MAX_IDS - 2], self._end]

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that fits, then the longest that fits the rest; unknown if nothing does."""
        found: list[int] = []
        start = 0
        while start < len(word) <= MAX_WORD:
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self._ids), None)
            if end is None:
                return [self._unknown]
            found.append(self._ids[mark + word[start:end]])
            start = end
        return found or [self._unknown]


def words(text: str) -> list[str]:
    """Words and single punctuation marks, in lower case and without accents."""
    cleaned = "".join(_cleaned(character) for character in text)
    apart = unicodedata.normalize("NFD", cleaned)
    plain = "".join(c.lower() for c in apart if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _stands_alone(c) else c for c in plain).split()


def _cleaned(character: str) -> str:
    if character in SPACES or unicodedata.category(character) == "Zs":
        return " "
    if character in "\0\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    return f" {character} " if any(low <= ord(character) <= high for low, high in HAN) else character


def _stands_alone(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")
