"""Where tasks come from, and where their results go."""

import pytest

from bridge.application import Place, make_app
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError

REDIS = "redis://queue.example.org/2"


def place(**settings: str) -> Place:
    return Place.of(Settings(redis_url=REDIS, **settings))


def test_everything_is_in_marqs_redis_unless_it_is_said_otherwise() -> None:
    assert place() == Place(REDIS, REDIS, "marq", "")
    assert place().is_redis
    other = place(celery_broker="amqp://rabbit//", celery_result_backend="rpc://", celery_queue="mine")
    assert other == Place("amqp://rabbit//", "rpc://", "mine", "")
    assert not other.is_redis


def test_keys_have_the_prefix_of_the_clients() -> None:
    backend = make_app(place(celery_key_prefix="shop:")).backend
    assert backend.get_key_for_task("t1") == b"shop:celery-task-meta-t1"


@pytest.mark.parametrize("broker", ["sqs://", "nonsense", "http://example.org"])
def test_a_broker_that_cannot_be_read_is_named(broker: str) -> None:
    with pytest.raises(SettingsError, match=f"celery_broker must be .* not of '{broker.partition(':')[0]}'"):
        make_app(place(celery_broker=broker))


def test_a_backend_that_celery_does_not_know_is_named_without_its_password() -> None:
    with pytest.raises(SettingsError, match="celery_result_backend nonsense://") as error:
        make_app(place(celery_result_backend="nonsense://u:secret@h"))
    assert "secret" not in str(error.value)
