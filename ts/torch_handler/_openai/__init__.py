"""OpenAI's completion routes for handlers of language models."""

from .handler import OpenAIHandler
from .steps import Step, Token

__all__ = ["OpenAIHandler", "Step", "Token"]
