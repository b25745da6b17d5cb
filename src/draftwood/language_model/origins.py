"""Where the tokens of a text came from: which drafter, how sure it was, what was refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from draftwood.draft import ROOT
from draftwood.sources import source_of
from draftwood.step import Step
from draftwood.text.decoding import Decoding
from draftwood.text.detokenizer import Detokenizer


@dataclass(frozen=True, slots=True)
class DraftedToken:
    """A token as a drafter proposed it.

    drafter, kind: as in `Source`. confidence: P(accepted | the tokens before it accepted), as the
    drafter said it.
    """

    token: int
    drafter: str
    kind: str
    confidence: float

    def as_dict(self) -> dict[str, Any]:
        """Without the token itself."""
        sure = round(self.confidence, 4)
        return {"drafter": self.drafter, "kind": self.kind, "confidence": sure}


@dataclass(frozen=True, slots=True)
class TokenOrigin:
    """Where one token of a text came from.

    text: what the token adds to the text; "" for a special token and for part of a character.
    step: the step that generated it, from 0. accepted: what a drafter proposed and the target took;
    None for the target's own token. refused: what the draft held first in the place of the target's
    own token; None where it held nothing. refused_text: the text of that.
    """

    token: int
    text: str
    step: int
    accepted: DraftedToken | None = None
    refused: DraftedToken | None = None
    refused_text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """By name, ready for JSON; without the keys that say nothing."""
        shown: dict[str, Any] = {"id": self.token, "text": self.text, "step": self.step}
        if self.accepted is not None:
            shown["accepted"] = self.accepted.as_dict()
        if self.refused is not None:
            shown["refused"] = {"text": self.refused_text, **self.refused.as_dict()}
        return shown


Row = tuple[int, int, DraftedToken | None, DraftedToken | None]
"""A token, its step, and what was accepted or refused there."""


class Origins(Sequence[TokenOrigin]):
    """Where each token of a generation came from, in order; the texts are decoded when asked for.

    The texts of all tokens concatenate to what the tokenizer gives for all of them, the end token
    left out; a text that a stop string ended is a prefix of it.
    """

    def __init__(self, rows: Sequence[Row], decoding: Decoding) -> None:
        self._rows = rows
        self._decoding = decoding
        self._told: list[TokenOrigin] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> TokenOrigin | list[TokenOrigin]:  # type: ignore[override]
        return self._all()[index]

    def __iter__(self) -> Iterator[TokenOrigin]:
        return iter(self._all())

    def __repr__(self) -> str:
        drafted = sum(accepted is not None for _, _, accepted, _ in self._rows)
        return f"Origins({len(self)} tokens, {drafted} of them drafted)"

    def _all(self) -> list[TokenOrigin]:
        if self._told is None:
            teller = OriginTeller(self._decoding)
            self._told = teller.tell(self._rows, last=True)
        return self._told


NO_ORIGINS: Final = Origins((), Decoding(lambda ids: ""))
"""Of a text without tokens."""


class OriginTeller:
    """Works out the origins of tokens as they are generated; one object for each text."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._text = Detokenizer(decoding)

    def tell(self, rows: Sequence[Row], *, last: bool = False) -> list[TokenOrigin]:
        """The origins of the next tokens. last: no more follow, so that no text is held back."""
        told = [self._one(row) for row in rows]
        if last:
            rest = self._text.finish()
            if rest and told:
                told[-1] = replace(told[-1], text=told[-1].text + rest)
        return told

    def _one(self, row: Row) -> TokenOrigin:
        token, step, accepted, refused = row
        text = self._text.push([token])
        if refused is None:
            return TokenOrigin(token, text, step, accepted)
        return TokenOrigin(
            token, text, step, accepted, refused, self._decoding.decode([refused.token])
        )


def origin_rows(step: Step, number: int) -> list[Row]:
    """A row for each token that a step generated. number: of the step in its text, from 0."""
    draft, path = step.draft, step.verdict.path.tolist()
    tokens: list[int] = step.tokens.tolist()

    def drafted(node: int) -> DraftedToken:
        source = source_of(int(draft.source[node]))
        sure = min(1.0, float(draft.confidence[node]))
        return DraftedToken(int(draft.tokens[node]), source.drafter, source.kind, sure)

    rows: list[Row] = [
        (token, number, drafted(node), None) for token, node in zip(tokens, path, strict=False)
    ]
    if len(path) < len(tokens):  # the target's own token
        below = draft.children(path[-1] if path else ROOT).tolist()
        refused = drafted(below[0]) if below else None
        rows.append((tokens[len(path)], number, None, refused))
    return rows
