"""Handlers out of plain functions: `from base_handler import handler_factory`.

An archive that carries a `base_handler.py` of its own uses that one.
"""

from base_handler.factory import handler_factory
from ts.torch_handler import base_handler as built_in

__all__ = ["BaseHandler", "handler_factory"]


class BaseHandler(built_in.BaseHandler):
    """The handler of an archive that names the default handler `base_handler`.

    A module of that name comes before the built-in handlers, and this package is such a module. It must
    define no second class.
    """
