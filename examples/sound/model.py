"""A bank of filters, one for each note. Nothing is learned, so the archive needs no weights."""

import torch
from torch import Tensor, nn

RATE = 16_000  # samples per second
LENGTH = RATE // 2  # samples of a clip
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
LOWEST, HIGHEST = 48, 83  # C3 and B5 as MIDI numbers


def name_of(note: int) -> str:
    """69 is A4."""
    return f"{NAMES[note % 12]}{note // 12 - 1}"


def hertz_of(note: int | Tensor):
    return 440.0 * 2.0 ** ((note - 69) / 12)


class NoteBank(nn.Module):
    """Clips (batch, LENGTH) in; how loud each note from LOWEST to HIGHEST is out, between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        notes = torch.arange(LOWEST, HIGHEST + 1)
        phase = 2 * torch.pi * torch.outer(torch.arange(LENGTH) / RATE, hertz_of(notes))
        window = torch.hann_window(LENGTH).unsqueeze(1)
        self.register_buffer("sine", phase.sin() * window)
        self.register_buffer("cosine", phase.cos() * window)

    def forward(self, clips: Tensor) -> Tensor:
        return torch.hypot(clips @ self.sine, clips @ self.cosine) * (4 / LENGTH)
