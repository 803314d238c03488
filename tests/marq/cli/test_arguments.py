import pytest
import typer

from marq.cli.commands.server import join_values


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ([], []),
        (["--models", "all"], ["--models=all"]),
        (
            ["--models", "a.mar", "b=b.mar", "--ts-config", "x"],
            ["--models=a.mar,b=b.mar", "--ts-config", "x"],
        ),
        (["--models", "a.mar,", "b.mar"], ["--models=a.mar,b.mar"]),
        (["--models=a.mar", "b.mar", "-h"], ["--models=a.mar,b.mar", "-h"]),
        (["--models", "a.mar", "--models", "b.mar"], ["--models=a.mar", "--models=b.mar"]),
        (["--models", "x=http://h/a.mar?b=c"], ["--models=x=http://h/a.mar?b=c"]),
        (["--ts-config", "x"], ["--ts-config", "x"]),
    ],
)
def test_models_takes_all_values_up_to_the_next_option(given, joined):
    assert join_values(given, "--models") == joined


@pytest.mark.parametrize("given", [["--models"], ["--models", "--ts-config", "x"], ["--models", ","]])
def test_models_without_a_value_is_refused(given):
    with pytest.raises(typer.BadParameter, match="at least one value"):
        join_values(given, "--models")
