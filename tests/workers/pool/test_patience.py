import queue

import pytest
import redis

from workers.pool import patience


@pytest.fixture
def read(monkeypatch):
    """Celery's way to read a message, where Redis answers with this error."""
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)

    def read(text: str) -> object:
        def fail(_channel: object) -> object:
            raise redis.ResponseError(text)

        return patience._patient(fail)(None)

    return read


def test_celery_reads_again_when_redis_cannot_write_its_file(read):
    with pytest.raises(queue.Empty):
        read("MISCONF Errors writing to the AOF file: No space left on device")


def test_other_errors_are_celery_s(read):
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        read("WRONGTYPE Operation against a key")
