"""How long, and how much of, finished work is kept in Redis.

Each process that ends a request needs these settings. They are read here without pydantic, which replicas do
not import.
"""

import os
from dataclasses import dataclass, fields

SETTINGS_PREFIX = "MARQ_"


@dataclass(frozen=True)
class Retention:
    """The bounds of job records and dead letters; the defaults are those of the settings with these names."""

    job_result_ttl_s: int = 3600
    dead_letter_ttl_s: int = 7 * 86_400
    dead_letter_max_bytes: int = 256 * 2**20  # of one model

    @classmethod
    def from_environment(cls) -> "Retention":
        """Reads the variables that each process of a server has (`Settings.environment`)."""
        given = {
            field.name: int(os.environ[variable])
            for field in fields(cls)
            if (variable := f"{SETTINGS_PREFIX}{field.name.upper()}") in os.environ
        }
        return cls(**given)
