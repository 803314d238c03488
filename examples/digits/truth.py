"""What must come back: the digits that the model itself reads, called directly in this process."""

from dataclasses import dataclass

import train
from load import Answer
from model import DigitNet


@dataclass(frozen=True)
class Truth:
    """The held-out images and the model's own answers to them."""

    held_out: train.Digits
    own: list[int]

    @classmethod
    def of(cls, network: DigitNet, held_out: train.Digits) -> "Truth":
        return cls(held_out, train.predict(network, held_out))

    @property
    def own_accuracy(self) -> float:
        return train.accuracy(self.own, self.held_out.labels)

    def accuracy(self, answers: list[Answer]) -> float:
        """The share of answers that name the digit on the image."""
        return sum(a.digit == self.held_out.labels[a.image] for a in answers) / max(1, len(answers))

    def problems(self, answers: list[Answer], passes: int) -> str:
        """What is wrong with the answers to so many passes over the images; empty if nothing is."""
        wanted = passes * len(self.held_out)
        failed = [a.problem for a in answers if a.digit is None]
        wrong = sum(a.digit is not None and a.digit != self.own[a.image] for a in answers)
        found = []
        if len(answers) != wanted:
            found.append(f"{wanted - len(answers)} of {wanted} answers are missing")
        if failed:
            found.append(f"{len(failed)} answers are errors, such as {failed[0]}")
        if wrong:
            found.append(f"{wrong} answers differ from the model's own")
        if not found and self.accuracy(answers) != self.own_accuracy:
            found.append(
                f"accuracy {self.accuracy(answers):.2%} is not the model's own {self.own_accuracy:.2%}"
            )
        return "; ".join(found)
