"""The errors of the package, one class for each cause; messages name value, limit and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any


class DraftwoodError(Exception):
    """Base class of all errors that a user can cause and fix."""


class InvalidTokens(DraftwoodError, ValueError):
    """Token ids that are not integers, negative where that is not allowed, or too large."""


class InvalidDraft(DraftwoodError, ValueError):
    """Arrays that do not form a token tree with parents before children."""


class InvalidSpec(DraftwoodError, ValueError):
    """A drafter spec with an unknown name, an unknown option or a value that does not parse."""


class InvalidOption(DraftwoodError, ValueError):
    """An argument outside its range."""

    @classmethod
    def unknown(cls, kind: str, name: object, known: Iterable[str]) -> InvalidOption:
        """No option has that name: what there is, the nearest first.

        kind: what the name should have been one of, such as "draftwood option".
        """
        return cls(f"no {kind} is named {name!r}; {choices(str(name), known)}")


class ModelNotFound(DraftwoodError, FileNotFoundError):
    """No model at the given path, and none that can be reached under that name."""


class BrokenModel(DraftwoodError, ValueError):
    """A model whose files exist but are incomplete, or do not match one another."""


class UnsupportedModel(DraftwoodError):
    """A model whose attention or cache cannot be verified exactly."""


class UnsupportedEngine(DraftwoodError):
    """An engine of a version that does not do what Draftwood needs of it."""


class UnusableLogits(DraftwoodError, ArithmeticError):
    """Logits from which no token can be chosen: not a number, or every token forbidden."""

    @classmethod
    def after(cls, tokens: int, logits: Iterable[float] = (float("nan"),)) -> UnusableLogits:
        """The error for the row after this number of tokens.

        logits: [V] of that row, after all logits processors.
        """
        if all(logit == float("-inf") for logit in logits):
            return cls(
                f"after {tokens} tokens the logits processors forbid every token; let them allow "
                "at least one, such as the end token"
            )
        return cls(
            f"after {tokens} tokens the model's logits are not finite (NaN or infinity); load it "
            "in float32 or bfloat16, or check its weights"
        )


class PairMismatch(DraftwoodError, ValueError):
    """A drafter's model and a target whose token ids do not mean the same."""


class ContextTooLong(DraftwoodError, ValueError):
    """Prompt (and what is to be generated) beyond the model's context length."""


class TraceError(DraftwoodError, ValueError):
    """A recorded trace that cannot be read."""


class MissingExtra(DraftwoodError, ImportError):
    """A feature whose optional dependency is not installed."""


class HistoryError(DraftwoodError, ValueError):
    """A history file that cannot be used; each subclass is one cause."""


class NotAHistory(HistoryError):
    """A file that does not begin as a history file does."""


class HistoryTruncated(HistoryError):
    """A history file shorter than its header says."""


class HistoryTooNew(HistoryError):
    """A history file of a newer major version, or with a required section unknown to this one."""


class HistoryCorrupt(HistoryError):
    """A history file whose bytes do not match their checksum."""


class HistoryMalformed(HistoryError):
    """A history file with an offset, a count or a value outside its range."""


class HistoryBusy(HistoryError):
    """A history file that another process has open for writing."""


class HistoryReplaced(HistoryError):
    """A history file that was removed, or replaced by another one, while it was open."""


class TokenizerMismatch(HistoryError):
    """A history file written with another tokenizer than the one it is to be used with."""


class BrokenRecord(DraftwoodError, ValueError):
    """A message of a shared log that cannot be read; it is skipped."""


class LogUnreachable(DraftwoodError, OSError):
    """A shared log that cannot be used now: no connection, or a broker that refuses."""


class TokenizerMissing(DraftwoodError, ValueError):
    """A path where a tokenizer is expected and no vocabulary is found."""


class SourceError(DraftwoodError, ValueError):
    """An input of `draftwood index build` that cannot be read as the format it seems to have."""


class GenerationFailed(DraftwoodError):
    """One of several texts failed; the finished ones, and what the others had generated, are kept.

    number: of the text that failed, from 0. generations: one for each text, in order: complete for
    those that finished, else what was generated so far (`finish` is None or "error"). finished: the
    complete ones. The error itself is the `__cause__`.
    """

    def __init__(self, number: int, error: Exception, generations: Sequence[Any]) -> None:
        self.number = number
        self.generations = list(generations)
        self.finished = [
            each for each in generations if each.error is None and each.finish is not None
        ]
        super().__init__(
            f"text {number} of {len(generations)} failed ({type(error).__name__}: {error}); "
            f"{len(self.finished)} finished ones are in `finished`; "
            "errors='return' goes on without a text that fails"
        )


class UnknownSequence(DraftwoodError, LookupError):
    """A sequence number that the index does not hold."""

    def __init__(self, sequence: int) -> None:
        super().__init__(
            f"sequence {sequence} is not in this tree; it was removed, or belongs to another"
        )


def choices(wrong: str, known: Iterable[str]) -> str:
    """What may stand in the place of a wrong name; the nearest of them first."""
    names = sorted(known)
    listed = f"choose from {', '.join(names)}"
    near = get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? {listed}" if near else listed
