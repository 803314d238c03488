"""Tokens and n-grams for the text handlers."""

_MARKS = str.maketrans(
    {
        "'": " ' ",
        '"': "",
        ".": " . ",
        ",": " , ",
        "(": " ( ",
        ")": " ) ",
        "!": " ! ",
        "?": " ? ",
        ";": " ",
        ":": " ",
    }
)


def get_tokenizer(tokenizer, language="en"):
    """A function from text to tokens: None splits at white space, a callable is taken as it is."""
    if tokenizer is None:
        return str.split
    if callable(tokenizer):
        return tokenizer
    if tokenizer != "basic_english":
        raise ValueError(f"unknown tokenizer {tokenizer!r}: give None, 'basic_english' or a callable")
    if language != "en":
        raise ValueError("basic_english is only available for English (en)")
    return _basic_english


def _basic_english(line):
    return line.lower().replace("<br />", " ").translate(_MARKS).split()


def ngrams_iterator(token_list, ngrams):
    """All tokens, then all pairs joined by a space, and so on up to `ngrams` tokens."""
    yield from token_list
    for size in range(2, ngrams + 1):
        for start in range(len(token_list) - size + 1):
            yield " ".join(token_list[start : start + size])
