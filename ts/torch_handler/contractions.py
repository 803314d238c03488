"""English contractions in lower case, and their long forms."""

_NEGATIONS = {
    "are": "are not",
    "ca": "cannot",
    "could": "could not",
    "did": "did not",
    "does": "does not",
    "do": "do not",
    "had": "had not",
    "has": "has not",
    "have": "have not",
    "is": "is not",
    "might": "might not",
    "must": "must not",
    "need": "need not",
    "ought": "ought not",
    "sha": "shall not",
    "should": "should not",
    "was": "was not",
    "were": "were not",
    "wo": "will not",
    "would": "would not",
    "may": "may not",
    "dare": "dare not",
    "ai": "is not",
}
_TAKES_HAVE = ("ca", "could", "had", "might", "must", "need", "ought", "sha", "should", "wo", "would")
_PRONOUNS = ("he", "she", "it", "that", "there", "what", "when", "where", "who", "how", "why", "so", "this")
_ENDINGS = {
    "i": {"'m": "i am", "'ve": "i have", "'d": "i would", "'ll": "i will"},
    "you": {"'re": "you are", "'ve": "you have", "'d": "you would", "'ll": "you will"},
    "we": {"'re": "we are", "'ve": "we have", "'d": "we would", "'ll": "we will"},
    "they": {"'re": "they are", "'ve": "they have", "'d": "they would", "'ll": "they will"},
    "he": {"'d": "he would", "'ll": "he will"},
    "she": {"'d": "she would", "'ll": "she will"},
    "it": {"'d": "it would", "'ll": "it will"},
    "that": {"'d": "that would"},
    "there": {"'d": "there would"},
    "what": {"'re": "what are", "'ve": "what have", "'ll": "what will"},
    "who": {"'ve": "who have", "'ll": "who will"},
    "how": {"'d": "how did", "'ll": "how will"},
    "where": {"'d": "where did", "'ve": "where have"},
    "when": {"'ve": "when have"},
    "why": {"'ve": "why have"},
    "so": {"'ve": "so have"},
    "to": {"'ve": "to have"},
    "will": {"'ve": "will have"},
    "could": {"'ve": "could have"},
    "might": {"'ve": "might have"},
    "must": {"'ve": "must have"},
    "should": {"'ve": "should have"},
    "would": {"'ve": "would have"},
}
_OTHERS = {
    "'cause": "because",
    "let's": "let us",
    "ma'am": "madam",
    "o'clock": "of the clock",
    "how'd'y": "how do you",
    "sha'n't": "shall not",
    "y'all": "you all",
    "y'all'd": "you all would",
    "y'all're": "you all are",
    "y'all've": "you all have",
    "y'all'd've": "you all would have",
}


def _build():
    found = {f"{stem}n't": text for stem, text in _NEGATIONS.items()}
    found |= {f"{stem}n't've": f"{_NEGATIONS[stem]} have" for stem in _TAKES_HAVE}
    found |= {f"{word}'s": f"{word} is" for word in _PRONOUNS}
    for word, endings in _ENDINGS.items():
        for ending, text in endings.items():
            found[word + ending] = text
            if ending in ("'d", "'ll"):
                found[f"{word}{ending}'ve"] = f"{text} have"
    return found | _OTHERS


CONTRACTION_MAP = _build()
