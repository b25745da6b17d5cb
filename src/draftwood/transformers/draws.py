"""The random numbers of `generate`: each step's are drawn once, for all rows of its batch."""

from __future__ import annotations

import torch


class Draws:
    """Draws tokens as `torch.multinomial` does in `generate`, step by step.

    A token is the one whose probability divided by a number of its own, exponentially distributed,
    is largest; this is what `torch.multinomial` computes for one draw. The numbers of step t are
    drawn when the first row comes to it, for the whole batch, and so from the same place of torch's
    generator as there. Rows may then be steps apart, and a drafted row that is refused draws
    nothing.

    batch, vocab: of the scores.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._first = 0
        self._numbers: list[torch.Tensor] = []

    def pick(self, step: int, row: int, scores: torch.Tensor) -> int:
        """The token of `row` at `step`, for its scores [1, V]."""
        probabilities = torch.softmax(scores, dim=-1)
        while step - self._first >= len(self._numbers):
            like = probabilities.expand(self._batch, -1)
            self._numbers.append(torch.empty_like(like).exponential_(1))
        numbers = self._numbers[step - self._first][row]
        return int((probabilities[0] / numbers).argmax())

    def forget(self, step: int) -> None:
        """No row is before this step any longer."""
        gone = max(0, min(step - self._first, len(self._numbers)))
        del self._numbers[:gone]
        self._first += gone
