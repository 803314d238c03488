"""Webhooks: messages to URLs when jobs have ended, signed as in Standard Webhooks, sent until taken."""
