import pytest

from marq.hidden_variables import hide


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("", ["AWS_KEY", "AWS_SECRET", "HOME", "MARQ_REDIS_URL", "MY_AWS_KEY"]),
        ("AWS_.*", ["HOME", "MARQ_REDIS_URL", "MY_AWS_KEY"]),
        ("AWS_KEY|HOME", ["AWS_SECRET", "MARQ_REDIS_URL", "MY_AWS_KEY"]),
        (".*", ["MARQ_REDIS_URL"]),
    ],
)
def test_variables_whose_whole_name_matches_are_removed_but_for_marqs_own(pattern, left):
    environ = dict.fromkeys(["AWS_KEY", "AWS_SECRET", "HOME", "MARQ_REDIS_URL", "MY_AWS_KEY"], "x")
    hide(pattern, environ)
    assert sorted(environ) == left
