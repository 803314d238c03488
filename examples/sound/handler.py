"""What the archive does with a batch of requests: WAV files in, notes out."""

import io
import logging
import wave

import torch
from model import LENGTH, LOWEST, RATE, hertz_of, name_of

from ts.torch_handler.base_handler import BaseHandler

logger = logging.getLogger(__name__)


def read_wav(content: bytes) -> tuple[torch.Tensor, int]:
    """The samples of a 16-bit WAV file as one channel from -1 to 1, and their rate.

    Python's own `wave` needs no package. `soundfile.read(io.BytesIO(content))` reads FLAC and OGG, too.
    """
    with wave.open(io.BytesIO(content)) as file:
        if file.getsampwidth() != 2:
            raise wave.Error(f"{8 * file.getsampwidth()} bits per sample; 16 are needed")
        frames = bytearray(file.readframes(file.getnframes()))
        if not frames:
            raise wave.Error("no sound in the file")
        samples = torch.frombuffer(frames, dtype=torch.int16).reshape(-1, file.getnchannels())
        return samples.float().mean(dim=1) / 32768, file.getframerate()


def to_clip(samples: torch.Tensor, rate: int) -> torch.Tensor:
    """The first half second at the model's rate, filled up with silence."""
    length = max(1, round(len(samples) * RATE / rate))
    clip = torch.nn.functional.interpolate(samples[None, None], length, mode="linear")[0, 0, :LENGTH]
    return torch.nn.functional.pad(clip, (0, LENGTH - len(clip)))


class SoundHandler(BaseHandler):
    """Answers `{"note": "A4", "hertz": 440.0, "loudness": 0.5}` for the loudest note of each file.

    A file that cannot be read gets a 400 of its own.
    """

    def preprocess(self, data):
        self.refused = {}
        clips = [self._clip(index, row.get("data") or row.get("body")) for index, row in enumerate(data)]
        return torch.stack(clips).to(self.device)

    def postprocess(self, loudness):
        best = loudness.max(dim=1)
        answers = [
            answer_for(LOWEST + note, value)
            for note, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        for index, reason in self.refused.items():
            self.context.set_response_status(400, "Bad Request", index)
            answers[index] = {"error": f"Send a WAV file: {reason}"}
        return answers

    def _clip(self, index, content):
        """Silence stands in for a file that cannot be read, so that its neighbours get their answers."""
        try:
            return to_clip(*read_wav(bytes(content or b"")))
        except (wave.Error, EOFError, RuntimeError) as error:
            logger.warning("request %s: %s", self.context.get_request_id(index), error)
            self.refused[index] = str(error) or "it ends too early"
            return torch.zeros(LENGTH)


def answer_for(note: int, loudness: float) -> dict:
    return {"note": name_of(note), "hertz": round(hertz_of(note), 2), "loudness": round(loudness, 3)}
