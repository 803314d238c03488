"""The URLs from which replicas get the bodies of jobs, and to which they put results (`job_url_hosts`)."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult

from marq.errors import BadRequest
from marq.webhooks.hosts import AllowedHosts
from marq.webhooks.urls import LONGEST_URL, VISIBLE, check_url

SETTING = "job_url_hosts"
S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")
S3_SCHEME = "s3://"


@dataclass(frozen=True)
class AllowedUrls:
    """The URLs that jobs may name: of allowed hosts, and `s3://BUCKET/...` of allowed buckets.

    Without any, none. Hosts are judged as those of webhooks are, but none is allowed unless it is named; `*`
    names all public ones.
    """

    hosts: AllowedHosts
    buckets: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> "AllowedUrls":
        """Reads the setting: `files.example.org, s3://my-bucket, 10.1.0.0/16`."""
        given = [each.strip() for each in text.split(",") if each.strip()]
        buckets = {each.removeprefix(S3_SCHEME).rstrip("/") for each in given if each.startswith(S3_SCHEME)}
        hosts = [each for each in given if not each.startswith(S3_SCHEME)]
        nowhere = AllowedHosts(public=False)
        return cls(AllowedHosts.parse(",".join(hosts)) if hosts else nowhere, frozenset(buckets))

    @property
    def allows_web(self) -> bool:
        """Whether any host is allowed."""
        return self.hosts != AllowedHosts(public=False)

    def check(self, url: str, name: str) -> None:
        """Raises BadRequest for a URL that is not allowed, whatever address the name of its host has.

        The address of a name is checked when the connection is made.
        """
        parts = check(url, name)
        found = S3.fullmatch(url)
        if found and found[1] not in self.buckets:
            raise BadRequest(
                f"{name}: the bucket {found[1]} is not allowed; {SETTING}=s3://{found[1]} allows it."
            )
        if parts and not self.allows_web:
            raise BadRequest(
                f"{name}: no host is allowed; {SETTING} names those that are, such as files.example.org."
            )
        if parts:
            self.hosts.check(parts.hostname or "", name, SETTING)


NONE_ALLOWED = AllowedUrls.parse("")


def check(url: str, name: str) -> SplitResult | None:
    """The parts of a web URL; None for one of S3. Raises BadRequest for another text."""
    if not url.startswith(S3_SCHEME):
        return check_url(url, name)
    if len(url) > LONGEST_URL or not VISIBLE.fullmatch(url) or not S3.fullmatch(url):
        raise BadRequest(f"{name} must be a URL such as s3://bucket/path, not {url!r:.100}")
    return None
