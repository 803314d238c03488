"""Errors of a metrics cache; each also derives from the built-in error of its kind."""

import yaml


class MetricsCacheTypeError(TypeError):
    """Raised when an argument is of the wrong type."""


class MetricsCacheValueError(ValueError):
    """Raised for a unit or a specification that cannot be used."""


class MetricsCacheKeyError(KeyError):
    """Raised for a metric or a key of the specification that does not exist."""


class MetricsCacheIOError(IOError):
    """Raised when the specification cannot be read."""


class MetricsCachePyYamlError(yaml.YAMLError):
    """Raised when the specification is not YAML."""


class GeneralMetricsCacheError(Exception):
    """Raised for everything else."""
