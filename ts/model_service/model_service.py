"""Base classes of the oldest handlers, which override the steps."""

from abc import ABC, abstractmethod


class ModelService(ABC):
    """A model that is initialised once and infers on one request's inputs at a time."""

    def __init__(self, model_name, model_dir, manifest, gpu=None):
        self.model_name = model_name
        self.model_dir = model_dir
        self.manifest = manifest
        self.gpu = gpu
        self.ctx = None

    def initialize(self, context):
        """Called once with the context before the first batch."""
        self.ctx = context

    @abstractmethod
    def inference(self, data):
        """The answer to the list of one request's inputs."""

    def handle(self, data, context):
        self.ctx = context
        return [self.inference(list(row.values())) for row in data]


class SingleNodeService(ModelService):
    """Inference in three steps."""

    def inference(self, data):
        return self._postprocess(self._inference(self._preprocess(data)))

    @abstractmethod
    def _inference(self, data):
        """The model's output for preprocessed data."""

    def _preprocess(self, data):
        return data

    def _postprocess(self, data):
        return data
