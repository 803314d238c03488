"""The rules of a server for the URLs that jobs name."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marq.jobs.transfer_urls import NONE_ALLOWED, AllowedUrls
from marq.webhooks.hosts import PUBLIC, AllowedHosts
from marq.webhooks.urls import SETTING, check_url

if TYPE_CHECKING:
    from marq.settings.fields import Settings


@dataclass(frozen=True)
class UrlRules:
    """By default webhooks go to public addresses, and no body is fetched."""

    webhooks: AllowedHosts = PUBLIC
    transfers: AllowedUrls = NONE_ALLOWED

    @classmethod
    def of(cls, settings: "Settings") -> "UrlRules":
        return cls(
            AllowedHosts.parse(settings.webhook_allowed_hosts), AllowedUrls.parse(settings.job_url_hosts)
        )

    def check_webhook(self, url: str | None, name: str = "webhook") -> None:
        """Raises BadRequest for a webhook that cannot be sent to, whatever address the name of its host has.

        The address of a name is checked when the webhook is sent.
        """
        if url:
            self.webhooks.check(check_url(url, name).hostname or "", name, SETTING)
