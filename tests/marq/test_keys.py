from hypothesis import given
from hypothesis import strategies as st

from marq import keys

NAMES = st.text("ab.-_:", min_size=1, max_size=3)
VERSIONS = st.text("01:{}/ highfrontpoolsslot", min_size=1, max_size=8)
KEYS = st.one_of(
    st.tuples(st.just(keys.lane), NAMES, VERSIONS, st.sampled_from((keys.FRONT, *keys.LANES))),
    st.tuples(st.just(keys.job), NAMES, VERSIONS),
    st.tuples(st.just(keys.finished), NAMES),
    st.tuples(st.just(keys.dead_letters), NAMES),
    st.tuples(st.just(keys.pools), NAMES, VERSIONS),
    st.tuples(st.just(keys.pool_owner), NAMES, VERSIONS),
    st.tuples(st.just(keys.slot), NAMES, VERSIONS, st.integers(0, 12)),
)
OF_ALL_MODELS = (
    keys.REGISTRY, keys.DEFAULT_VERSIONS, keys.MARK, keys.MANAGEMENT, keys.NODES, keys.GATEWAYS, keys.TOKENS,
    keys.CELERY,
)  # fmt: skip


def key_of(made) -> str:
    function, *arguments = made
    if function is keys.slot:
        name, version, number = arguments
        return keys.slot(name, version, number)
    return function(*arguments)


def hash_tag(key: str) -> str:
    """What Redis Cluster hashes: the text between the first `{` and the next `}`."""
    return key.partition("{")[2].partition("}")[0]


@given(KEYS)
def test_every_key_of_a_model_lies_in_the_slot_of_its_name(made):
    assert hash_tag(key_of(made)) == made[1]


@given(KEYS, KEYS)
def test_different_things_have_different_keys(one, other):
    assert (key_of(one) == key_of(other)) == (one == other)


@given(KEYS)
def test_no_key_of_a_model_is_one_of_all_models(made):
    key = key_of(made)
    assert key not in OF_ALL_MODELS
    assert not key.startswith((keys.CELERY, keys.replies(""), keys.node_owner("")))


def test_every_key_begins_with_the_prefix():
    made = (*OF_ALL_MODELS, keys.replies("g"), keys.finished("m"), *keys.lanes("m", "1"), keys.job("m", "i"))
    assert all(key.startswith("marq:") for key in made)


def test_what_a_lost_replica_held_is_read_first_and_high_before_low():
    assert keys.lanes("m", "1") == tuple(
        keys.lane("m", "1", name) for name in ("front", "high", "normal", "low")
    )


def test_producers_write_to_the_normal_lane_unless_they_say_more():
    assert keys.lane("m", "1") == keys.lane("m", "1", keys.NORMAL) == "marq:{m}:normal:1"
