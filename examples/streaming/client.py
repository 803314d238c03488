"""Shows the text while it is written.

python examples/streaming/client.py [word]
"""

import sys
from collections.abc import Iterator

import httpx

INFERENCE = "http://127.0.0.1:8080"


def words(word: str, inference: str = INFERENCE) -> Iterator[str]:
    """The parts of the answer as they arrive. Raises httpx.HTTPStatusError for a refusal."""
    headers = {"Content-Type": "text/plain"}
    url = f"{inference}/predictions/writer"
    with httpx.stream("POST", url, content=word, headers=headers, timeout=60) as answer:
        if answer.is_error:
            answer.read()
        answer.raise_for_status()
        yield from answer.iter_text()


if __name__ == "__main__":
    try:
        for part in words(sys.argv[1] if sys.argv[1:] else "the"):
            print(part, end="", flush=True)
        print()
    except httpx.HTTPStatusError as error:
        sys.exit(error.response.text)
