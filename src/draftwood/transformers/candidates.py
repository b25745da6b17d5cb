"""Drafts in the form that assisted generation asks for, for people with a loop of their own."""

from __future__ import annotations

from typing import Any, Self

from draftwood.budget.spender import Spender
from draftwood.drafters.catalog import make_drafter
from draftwood.protocols import Drafter
from draftwood.sessions import Sessions


class DraftCandidates:
    """A candidate generator for one text: `get_candidates`, `update_candidate_strategy`.

    It has the methods of transformers' `CandidateGenerator`, and no logits for its candidates. How
    its drafts went follows from the tokens of the next call. A call whose tokens do not continue
    those of the last one begins another text.

    drafter: a spec, or a drafter of your own, which stays open. vocab_size: of the model.
    max_length: tokens of prompt and text. nodes: the longest draft. spender: cuts drafts to what
    pays (`Spending`).

    Raises:
        InvalidSpec, InvalidOption: for a spec that names no drafter, or a size below its limit.
    """

    requires_model_outputs = False

    def __init__(
        self,
        drafter: str | Drafter = "recall:mode=chain",
        *,
        vocab_size: int,
        max_length: int,
        nodes: int = 16,
        spender: Spender | None = None,
    ) -> None:
        self._owned = isinstance(drafter, str)
        self._drafter = make_drafter(drafter) if isinstance(drafter, str) else drafter
        self._sessions = Sessions(
            self._drafter,
            vocab_size=vocab_size,
            context_limit=max_length,
            nodes=nodes,
            spender=spender,
            trees=False,
        )
        self._max_length = max_length
        self._tokens: list[int] = []

    def get_candidates(self, input_ids: Any, **_: Any) -> tuple[Any, None]:
        """The tokens [1, L] with drafted ones after them, int64 [1, L + k]; no logits."""
        import torch

        tokens: list[int] = input_ids[0].tolist()
        known = self._tokens
        if known and len(tokens) > len(known) and tokens[: len(known)] == known:
            new = tokens[len(known) :]
        else:
            if known:
                self._sessions.close("text")
            self._sessions.open("text", tokens)
            new = []
        self._tokens = tokens
        room = max(0, self._max_length - len(tokens))
        (draft,) = self._sessions.step(["text"], [new], room=room).chains()
        drafted = torch.tensor([draft], dtype=input_ids.dtype, device=input_ids.device)
        return torch.cat([input_ids, drafted], dim=-1), None

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
        """Nothing: the next call's tokens say how the draft went."""

    def close(self) -> None:
        """End the text; what it said stays in the drafter's history."""
        if self._tokens:
            self._sessions.close("text")
            self._tokens = []
        if self._owned:
            self._drafter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
