"""Version 2.0 counts words: what was written for 1.0 gets other numbers."""

VERSION = "2.0"


def count(text: str) -> int:
    return len(text.split())
