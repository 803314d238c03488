"""Which names models and their versions may have."""

import re

# They become parts of Redis keys, URLs, files, Celery's names and ids of jobs.
_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff" + re.escape("/\\{}[]<>,;:|?*%\"'`$&#=@")
_MODEL = re.compile(rf"(?![ .-])[^{_FORBIDDEN}]{{1,100}}(?<! )")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,49}")
_MOST_BYTES = 120  # of a model's name, in UTF-8

MODEL_RULE = (
    f"A model name has up to 100 characters ({_MOST_BYTES} bytes in UTF-8). It does not begin with a space, "
    "dot or hyphen, nor end with a space, and has no control character and none of /\\{}[]<>,;:|?*%\"'`$&#=@"
)
VERSION_RULE = f"A model version must match ^{_VERSION.pattern}$"


def is_model_name(text: str) -> bool:
    return bool(_MODEL.fullmatch(text)) and len(text.encode()) <= _MOST_BYTES


def is_version(text: str) -> bool:
    return bool(_VERSION.fullmatch(text))
