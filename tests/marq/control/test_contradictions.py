import pytest
from thread_replica import make_spec

from marq.control.contradictions import contradiction

RESTS = {"min_workers": 0, "max_workers": 2, "idle_timeout_s": 30}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_job_ticket": True}, "useJobTicket and idleTimeoutSec exclude each other"),
        (
            {"sequence_batching": True, "sequence_max_idle_ms": 60_500},
            "Set idleTimeoutSec to 61 at least.",
        ),
    ],
)
def test_a_model_that_rests_excludes_what_needs_a_replica(settings, said):
    assert said in contradiction(make_spec("m", **RESTS, **settings))
    assert contradiction(make_spec("m", min_workers=1, max_workers=2, **settings)) == ""


def test_a_model_that_rests_longer_than_its_sequences_last_is_right():
    sequences = {"sequence_batching": True, "sequence_max_idle_ms": 20_000}
    assert contradiction(make_spec("m", **RESTS, **sequences)) == ""


def test_a_webhook_of_a_model_must_be_a_url():
    assert contradiction(make_spec("m", webhook_url="https://example.org/hook")) == ""
    said = contradiction(make_spec("m", webhook_url="example.org"))
    assert said.startswith("webhookUrl: webhook must be a URL such as https://example.org/path")
