"""Every outcome of chance, with its probability: proofs by enumeration."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from draftwood.sampling.chance import Chance, Weights

T = TypeVar("T", bound=Hashable)


class Branch:
    """A `Chance` that follows a script, and takes the first possible outcome beyond its end."""

    def __init__(self, script: Sequence[int]) -> None:
        self.probability = Fraction(1)
        self.taken: list[int] = []
        self.choices: list[list[int]] = []
        self._script = script

    def accept(self, probability: Any) -> bool:
        """Branch into yes and no."""
        yes = min(max(Fraction(probability), Fraction(0)), Fraction(1))
        return self.pick([1 - yes, yes]) == 1

    def pick(self, weights: Weights) -> int:
        """Branch into every index with a positive weight."""
        exact = [Fraction(weight) for weight in weights]
        if min(exact) < 0:
            raise ValueError(f"a weight is {min(exact)}; weights are not negative")
        possible = [index for index, weight in enumerate(exact) if weight]
        if not possible:
            raise ValueError(f"all {len(exact)} weights are 0; one must be positive")
        at = len(self.taken)
        index = self._script[at] if at < len(self._script) else possible[0]
        self.taken.append(index)
        self.choices.append(possible)
        self.probability *= exact[index] / sum(exact)
        return index


def law_of(program: Callable[[Chance], T]) -> dict[T, Fraction]:
    """The exact law of a program's result: every outcome that can happen, with its probability.

    The program runs once a branch; apart from its chance it must be deterministic.
    """
    law: dict[T, Fraction] = {}
    scripts: list[list[int]] = [[]]
    while scripts:
        script = scripts.pop()
        branch = Branch(script)
        outcome = program(branch)
        law[outcome] = law.get(outcome, Fraction(0)) + branch.probability
        for at in range(len(script), len(branch.taken)):
            taken, others = branch.taken[at], branch.choices[at]
            scripts += [[*branch.taken[:at], other] for other in others if other != taken]
    return law
