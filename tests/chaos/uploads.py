"""A request whose body comes in two halves."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from stage import Stage

ANSWER_S = 60.0


@dataclass
class Upload:
    rest: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def begin(cls, stage: Stage, path: str, size: int) -> "Upload":
        """Sends the first half."""
        parts = urlsplit(stage.server.inference)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        writer.write(b" " * (size // 2))
        await writer.drain()
        return cls(b" " * (size - size // 2), reader, writer)

    async def finish(self) -> int:
        """Sends the rest; returns the status of the answer, 0 if there is none."""
        try:
            async with asyncio.timeout(ANSWER_S):
                self.writer.write(self.rest)
                line = await self.reader.readline()
        except (TimeoutError, OSError):
            return 0
        finally:
            self.writer.close()
        return int(line.split()[1]) if line else 0
