"""One sequence in a model of ONNX Runtime GenAI."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.protocols import Verdict
from draftwood.targets.committed import Committed
from draftwood.targets.host_rows import HostRows

PROMPT_ROWS: Final = 256
"""Tokens of a prompt in one run, which gives logits for each of them."""


class OnnxCursor:
    """One sequence in an `OnnxTarget`. Used by one thread at a time.

    generator: of onnxruntime-genai, empty. committed: the prompt.
    """

    def __init__(self, generator: Any, committed: Committed, *, vocab_size: int) -> None:
        self._generator = generator
        self._committed = committed
        self._vocab_size = vocab_size
        self._held = 0
        self._draft: Draft | None = None

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones."""
        return self._committed.room

    def score(self, draft: Draft) -> HostRows:
        """One run over the whole draft (before it, at first: over the prompt).

        Raises:
            InvalidDraft: for a draft that branches.
        """
        if not draft.is_chain:
            raise InvalidDraft(
                f"a draft of {len(draft)} nodes branches and this model takes chains only; "
                "pass draft.to_chain()"
            )
        context = self._committed.tokens
        self._rewind(min(self._held, len(context) - 1))
        while len(context) - self._held > PROMPT_ROWS:
            self._append(context[self._held : self._held + PROMPT_ROWS])
        drafted = np.minimum(draft.tokens, self._vocab_size - 1)  # those beyond are never accepted
        self._append(np.concatenate((context[self._held :], drafted)))
        logits = self._generator.get_output("logits")[0, -len(draft) - 1 :]
        self._draft = draft
        return HostRows(np.array(logits, dtype=np.float32), context)

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted tokens and the next one; forget the rest of the scored draft.

        Raises:
            InvalidDraft: for another draft than the one scored last.
        """
        if draft is not self._draft:
            raise InvalidDraft("the draft to commit is not the one scored last; score it first")
        self._rewind(self._committed.count + len(verdict.path))
        self._draft = None
        self._committed.append(verdict.tokens(draft))

    def close(self) -> None:
        """Free the sequence; the cursor is not used again."""
        self._generator = None

    def _append(self, tokens: TokenIds) -> None:
        self._generator.append_tokens(np.ascontiguousarray(tokens, dtype=np.int32))
        self._held += len(tokens)

    def _rewind(self, length: int) -> None:
        if length < self._held:
            self._generator.rewind_to(length)
            self._held = length
