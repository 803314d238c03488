"""Each setting that the management API takes is an option of the command."""

import inspect

import pytest

from marq.cli.commands.models import management
from marq.registry.spec import SETTINGS


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.api], ids=lambda setting: setting.api)
def test_register_and_scale_have_an_option(run, setting):
    option = "--" + setting.api.replace("_", "-")
    for command, offered in (("register", True), ("scale", setting.changeable)):
        assert (setting.api in inspect.signature(getattr(management, command)).parameters) is offered
        assert (option in run(command, "--help").stdout) is offered
