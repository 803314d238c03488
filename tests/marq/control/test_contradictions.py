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


def test_a_group_of_processes_needs_its_devices_and_one_batch_at_a_time():
    group = {"parallel_type": "tp", "parallel_level": 4, "ranks": 4}
    assert contradiction(make_spec("m", **group)) == ""
    for few in ([0, 1], [0, 1, 1, 0]):
        assert "deviceIds names 2 GPUs" in contradiction(make_spec("m", device_ids=few, **group))
    assert "torchrun and asyncCommunication exclude" in contradiction(
        make_spec("m", async_communication=True, **group)
    )


def test_a_process_with_several_devices_needs_as_many():
    custom = {"parallel_type": "custom", "parallel_level": 2}
    assert contradiction(make_spec("m", device_ids=[0, 1], **custom)) == ""
    said = contradiction(make_spec("m", device_ids=[0], **custom))
    assert said.startswith("a replica has 2 devices")
    assert said.endswith("deviceIds names 1 GPUs. Name as many GPUs, or lower the number.")


@pytest.mark.parametrize("mode", ["sequence_batching", "continuous_batching"])
def test_a_policy_of_a_plugin_needs_plain_batches(mode):
    settings = {mode: True, "sequence_max_idle_ms": 1000}
    assert "exclude each other" in contradiction(make_spec("m", batching="like_sizes", **settings))
    for batching in ("adaptive", "fixed"):
        assert contradiction(make_spec("m", batching=batching, **settings)) == ""


def test_a_webhook_of_a_model_must_be_a_url():
    assert contradiction(make_spec("m", webhook_url="https://example.org/hook")) == ""
    said = contradiction(make_spec("m", webhook_url="example.org"))
    assert said.startswith("webhookUrl: webhook must be a URL such as https://example.org/path")
