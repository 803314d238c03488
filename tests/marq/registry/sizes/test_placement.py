import pytest
from thread_replica import make_spec

from marq.registry.sizes.hosts import Device, Host
from marq.registry.sizes.placement import UNLIMITED, most, share, unplaced


def host(gpus: int) -> Host:
    return Host("cuda" if gpus else "", tuple(Device(number) for number in range(gpus)), cores=8)


def hosts(*gpus: int) -> dict[str, Host]:
    """Nodes a, b, ... with so many GPUs each."""
    return {name: host(count) for name, count in zip("abcdef", gpus, strict=False)}


def shares(size: int, *gpus: int, **settings) -> list[int]:
    spec, there = make_spec("m", **settings), hosts(*gpus)
    return [share(spec, size, there, node) for node in there]


@pytest.mark.parametrize(
    ("size", "gpus", "expected"),
    [(4, (0, 0), [2, 2]), (3, (0, 0), [2, 2]), (1, (0, 0), [1, 1]), (0, (0, 0), [0, 0]), (4, (2, 0), [2, 2])],
)
def test_a_version_without_a_device_type_is_spread_evenly(size, gpus, expected):
    assert shares(size, *gpus) == expected


@pytest.mark.parametrize(
    ("size", "gpus", "expected"),
    [
        (2, (1, 0), [2, 0]),  # two on the only GPU
        (4, (2, 2, 0), [2, 2, 0]),
        (5, (4, 1), [4, 1]),  # one on each GPU, not three on one host
        (6, (4, 1), [4, 2]),
        (3, (0, 0), [2, 2]),  # no GPU in the cluster: on the CPU, as in TorchServe
    ],
)
def test_a_version_for_gpus_goes_to_hosts_with_gpus(size, gpus, expected):
    assert shares(size, *gpus, device_type="gpu") == expected


def test_a_version_that_names_its_gpus_counts_these_only():
    assert shares(3, 4, 2, device_type="gpu", device_ids=[0]) == [2, 2]
    assert shares(3, 4, 2, device_type="gpu", device_ids=[2, 3]) == [
        2,
        2,
    ]  # b has none of them: it may use all


def test_a_replica_of_several_devices_needs_a_host_that_has_them_free():
    assert shares(3, 4, 2, 1, device_type="gpu", parallel_level=2) == [2, 1, 0]


def test_no_device_gets_more_replicas_than_it_may_have():
    assert shares(9, 2, 1, device_type="gpu", replicas_per_device=2) == [4, 2]


def test_how_far_an_elastic_version_may_grow():
    def limit(*gpus, **settings):
        return most(make_spec("m", min_workers=1, max_workers=20, **settings), hosts(*gpus))

    assert limit(2, 1, 0, device_type="gpu") == 3
    assert limit(2, 1, 0, device_type="gpu", replicas_per_device=2) == 6
    assert limit(2, 2) == 4  # its replicas would be on GPUs as well
    assert limit(0, 0, device_type="gpu") == UNLIMITED
    assert limit(2, 2, device_type="cpu") == UNLIMITED
    assert limit() == UNLIMITED  # no node has reported yet


def test_replicas_without_a_device_are_counted():
    spec = make_spec("m", min_workers=5, max_workers=5, device_type="gpu", replicas_per_device=1)
    assert unplaced(spec, 5, hosts(2, 1, 0)) == (
        "m 1.0: 2 of 5 replicas have no device: replicasPerDevice is 1, "
        "and the cluster has 3 GPUs for it (on a, b)"
    )
    assert unplaced(spec, 3, hosts(2, 1, 0)) == ""
    assert unplaced(spec, 5, hosts(0, 0)) == ""
    assert unplaced(make_spec("m", min_workers=5, max_workers=5, device_type="gpu"), 5, hosts(1)) == ""
