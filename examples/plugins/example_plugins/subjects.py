"""Certificates of gRPC clients: `EXAMPLE_SUBJECTS` lists the common names that may manage models."""

import os

from marq.plugins.protocols import Access, Allow, Deny


class Subjects:
    """For servers with `enable_grpc_ssl` and `grpc_client_ca_file`; others leave the decision to the next."""

    protocol = 1
    headers = ()

    def __init__(self) -> None:
        self._managers = frozenset(filter(None, os.environ.get("EXAMPLE_SUBJECTS", "").split(",")))

    def decide(self, access: Access) -> Allow | Deny | None:
        if not access.subject:
            return None
        if access.plane == "management" and access.subject not in self._managers:
            return Deny(f"{access.subject} may not manage models.")
        return Allow(valid_for_s=60)
