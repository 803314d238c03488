"""The Lua scripts of webhooks, from `marq/webhooks/lua`."""

from marq.connections.scripts import read

TAKE = read("marq.webhooks", "take")
POSTPONE = read("marq.webhooks", "postpone")
REPLAY = read("marq.webhooks", "replay")
