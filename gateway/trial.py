"""`python -m gateway.trial`: loads all plugins once before a server starts; this process may hang or crash.

Prints a line of JSON for each plugin when it begins, and one when it has ended.
"""

import json
import os
import sys
from dataclasses import asdict
from typing import TextIO

from gateway import application
from gateway.auth.tokens import Tokens
from gateway.endpoints import Endpoint
from gateway.inference.predictor import Predictor
from gateway.routing.routes import Routes
from gateway.workflows.known import KnownWorkflows
from marq.errors import MarqError
from marq.jobs.jobs import Jobs
from marq.plugins import discovery
from marq.plugins.discovery import Plugin
from marq.plugins.protocols import ENDPOINTS
from marq.queue.broker import Broker
from marq.settings import loading
from marq.settings.fields import Settings

UNUSED = "redis://127.0.0.1:1/0"


def main() -> None:
    lines = _take_stdout()
    config = loading.load().model_copy(update={"redis_url": UNUSED})
    endpoints: list[Endpoint] = []
    for number, found in enumerate(discovery.find(config.plugins_path, config.plugins_left_out)):
        _say(lines, {"begins": number})
        try:
            plugin = discovery.load(found)
            hooks = discovery.describe(plugin)
            if found.group == ENDPOINTS:
                hooks += f": {', '.join(_tried(config, plugin, endpoints))}"
            outcome = {"hooks": hooks}
        except MarqError as error:
            outcome = {"error": str(error)}
        _say(lines, {"ends": number, **asdict(found), **outcome})
    lines.flush()
    os._exit(0)  # threads of a plugin must not keep this process


def _tried(config: Settings, plugin: Plugin, earlier: list[Endpoint]) -> list[str]:
    """The paths of an endpoint plugin, which is added to `earlier` ones. Raises PluginError.

    Nothing is connected: no route is asked.
    """
    routes, broker, tokens = Routes(config), Broker(UNUSED), Tokens(required=True)
    jobs = Jobs(broker)
    workflows = KnownWorkflows()
    [found] = application.plugged(config, routes, jobs, workflows, [plugin])
    predictor = Predictor(routes, broker, jobs, tokens, config.max_request_size)
    made = application.Applications(config, routes, tokens, predictor, jobs, workflows)
    made.add([*earlier, found])
    made.shared()
    earlier.append(found)
    return found.paths


def _take_stdout() -> TextIO:
    """The real standard output; a plugin's own output goes to standard error."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lines


def _say(lines: TextIO, value: object) -> None:
    lines.write(json.dumps(value) + "\n")
    lines.flush()


if __name__ == "__main__":
    main()
