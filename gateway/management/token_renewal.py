"""`/token`: new keys for the planes whose keys expire."""

import logging
from pathlib import Path

from fastapi import APIRouter, Request, Response

from gateway.auth.tokens import NOT_RENEWED, Tokens
from gateway.openapi import OTHER_METHODS
from marq.connections import clients
from marq.control.readiness import wait_for_gateways
from marq.errors import InvalidToken, ServiceUnavailable
from marq.registry.models import Registry
from marq.registry.token_store import KEY_FILE, renew_in_file
from marq.settings.fields import Settings
from marq.token_planes import API, EXPIRING

log = logging.getLogger(__name__)


def router(settings: Settings, tokens: Tokens) -> APIRouter:
    """The route that makes a key."""
    client = clients.client(settings.redis_url)
    api = APIRouter(tags=["tokens"])

    @api.get("/token")
    @api.api_route("/token", methods=OTHER_METHODS, include_in_schema=False)
    def renew_token(request: Request, type: str | None = None) -> Response:  # noqa: A002 - the parameter's name
        """Makes a new key for the plane `management` or `inference`, and writes it to the key file.

        Takes the API key. All gateways know the new key when this answers; the old one is good no more. Where
        the file cannot be written, no key changes.
        """
        try:
            tokens.check(API, request.scope["headers"])
        except InvalidToken:
            raise InvalidToken(NOT_RENEWED) from None
        if type not in EXPIRING:
            raise InvalidToken(NOT_RENEWED)
        try:
            renewed = renew_in_file(Path.cwd(), client, type, settings.token_expiration_min)
        except OSError as error:
            reason = f"The token is not renewed, because {KEY_FILE} cannot be written: {error.strerror}."
            raise ServiceUnavailable(reason) from None
        wait_for_gateways(Registry(client), renewed)
        return Response(b"\n", media_type="application/json")

    return api
