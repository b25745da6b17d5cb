"""What a transformers model can do, found out by trying: its passes against `generate`.

    prompt  . . . . . . . . t |  p1  p2  p3  n        `generate` is made to write these tokens,
                              |                       one after the other, and tells its logits
    tree    . . . . . . . . t | a p1 b p2 c p3        the same rows must come out of one pass over
                              |                       a draft that holds the path, and of the pass
                                                      after its commit

Whatever depends on the length of a text (a sliding window, a number of keys that are looked up)
shows in a real model only far beyond a few tokens. So all passes are made twice: by the model as it
is, and by a copy that shares its weights and whose windows are a few tokens wide (`narrowed`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from draftwood.draft import ROOT, Draft, TokenIds
from draftwood.protocols import Cursor, Rows, Verdict
from draftwood.targets.transformers.batch import TransformersBatch
from draftwood.targets.transformers.cursor import TransformersCursor
from draftwood.targets.transformers.lean import rounded, spread
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.solo import SoloCursor

PROMPT_TOKENS = 8
"""Tokens of the prompt of a probe."""
PROBE_TOKENS = PROMPT_TOKENS + 8
"""Tokens of all that a probe generates, with its prompt."""
WINDOW = 6
"""Tokens that a narrowed copy sees, where the model itself sees more."""
_WINDOW_NAMES = re.compile(
    r"(window|window_size|window_len|chunk_size|local_attention|index_topk|block_size)$"
)
"""How configurations call what depends on the length of a text; `max_window_layers` is none."""


class Probe:
    """Short passes of a model, compared with what its `generate` computes.

    lean: whether they are made bare where it has a bare pass. static: whether in static shapes.
    """

    def __init__(self, model: Any, *, lean: bool = True, static: bool = False) -> None:
        way = {"lean": lean, "static": static}
        self._subjects = [_Subject(_sharing_weights(model) or model, **way)]
        narrow = narrowed(model)
        if narrow is not None:
            self._subjects += filter(_Subject.generates, [_Subject(narrow, **way)])

    def chain_problem(self) -> str | None:
        """How a chain in one pass differs from one token after the other; None: not at all."""
        return self._first(_Subject.chain_problem)

    def tree_problem(self) -> str | None:
        """The same for a tree, whose paths lie apart among its nodes."""
        return self._first(_Subject.tree_problem)

    def batch_problem(self) -> str | None:
        """The same for a tree that shares its passes with a longer sequence and a shorter one."""
        return self._first(_Subject.batch_problem)

    def _first(self, problem: Callable[[_Subject], str | None]) -> str | None:
        return next(filter(None, map(problem, self._subjects)), None)


class _Subject:
    """One model under probe.

    allowed: how far logits of passes of other shapes may be off, in standard deviations.
    """

    def __init__(self, model: Any, *, lean: bool, static: bool) -> None:
        self.model = model
        self.network = Network(model, lean=lean, static=static)
        self.allowed = rounded(self.network.dtype, self.network.layers.count, at_least=0.25)
        tokens = spread(self.network.vocab_size, PROBE_TOKENS)
        self._prompt, self._first = tokens[:PROMPT_TOKENS], tokens[PROMPT_TOKENS]
        #  context -> 0 -> 2        1, 3, 5 is the path; node 5 is deep, and no node of its path
        #          -> 1 -> 3 -> 5   stands beside another in the arrays
        #       0 -> 4
        nodes = tokens[PROMPT_TOKENS + 1 :]
        self._tree = Draft.tree(nodes[:6], [ROOT, ROOT, 0, 1, 0, 3])
        self._path = self._tree.path(5)
        self._next = int(nodes[6])

    @cached_property
    def _expected(self) -> NDArray[np.float32]:
        """What `generate` computes after the context, each token of the path, and the next one."""
        path = self._tree.tokens[self._path].tolist()
        return _generated(self.model, self._prompt, [int(self._first), *path, self._next])[1:]

    def generates(self) -> bool:
        """Whether `generate` runs at all; a narrowed copy of some models is none."""
        try:
            return bool(len(self._expected))
        except Exception:
            return False

    def chain_problem(self) -> str | None:
        """How a chain differs, half of which is accepted."""
        tokens = self._tree.tokens[self._path]
        draft, verdict = Draft.chain(tokens), Verdict(np.array([0], dtype=np.int32), int(tokens[1]))

        def expected() -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
            return dict(zip(range(4), self._expected, strict=False)), self._expected[2]

        return self._problem(self._cursor, draft, verdict, expected)

    def tree_problem(self, opened: Callable[[TokenIds], Cursor] | None = None) -> str | None:
        """How a tree differs, the deepest path of which is accepted."""
        verdict = Verdict(self._path, self._next)

        def expected() -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
            rows = dict(zip([0, *(self._path + 1).tolist()], self._expected, strict=False))
            context = np.append(self._prompt, self._first)
            for leaf in (2, 4):
                beside = np.append(context, self._tree.tokens[self._tree.path(leaf)])
                rows[leaf + 1] = _generated(self.model, beside, [])[0]
            return rows, self._expected[4]

        return self._problem(opened or self._cursor, self._tree, verdict, expected)

    def batch_problem(self) -> str | None:
        """How the same tree differs in a batch."""
        return self.tree_problem(lambda prompt: _Accompanied(self.network, prompt))

    def _cursor(self, prompt: TokenIds) -> TransformersCursor | SoloCursor:
        if self.network.static is not None:
            return SoloCursor(self.network, prompt)
        return TransformersCursor(self.network, self.network.admit(prompt))

    def _problem(
        self,
        opened: Callable[[TokenIds], Cursor],
        draft: Draft,
        verdict: Verdict,
        expected: Callable[[], tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]],
    ) -> str | None:
        """How rows of a draft, and the row after its commit, differ from what is expected."""
        nothing = Draft.empty()
        try:
            rows, following = expected()
            with closing(opened(self._prompt)) as cursor:
                cursor.score(nothing)
                cursor.commit(nothing, Verdict(nothing.path(ROOT), int(self._first)))
                scored = cursor.score(draft)
                for row, logits in rows.items():
                    if off := self._difference(scored.logits(row), logits):
                        return f"at node {row - 1}, {off}"
                cursor.commit(draft, verdict)
                off = self._difference(cursor.score(nothing).logits(0), following)
                return off and f"after a commit, {off}"
        except Exception as error:  # whatever a model raises says that it cannot do this
            return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

    def _difference(self, found: NDArray[Any], expected: NDArray[np.float32]) -> str | None:
        if np.isnan(expected).any():
            return "the model's own logits are NaN, as of broken weights or too small a dtype"
        off = float(np.abs(expected - found).max() / max(float(expected.std()), 1e-30))
        return None if off <= self.allowed else f"logits off by {off:.2g} standard deviations"


def narrowed(model: Any) -> Any:
    """A copy that shares the model's weights and sees `WINDOW` tokens where it sees more.

    None where nothing in its configuration names a window beyond the tokens of a probe, or where
    the model cannot be copied.
    """
    narrow = _sharing_weights(model)
    if narrow is None:
        return None
    config = narrow.config.get_text_config(decoder=True)
    found = False
    for owner in chain((narrow.config, config), narrow.modules()):
        for name, value in list(vars(owner).items()):
            if _WINDOW_NAMES.search(name) and type(value) is int and value > PROMPT_TOKENS:
                setattr(owner, name, WINDOW)
                found = True
    return narrow if found else None


def _sharing_weights(model: Any) -> Any | None:
    """A copy of a model that holds the same tensors, and generates by no rules but the logits'.

    None where the model cannot be copied.
    """
    try:
        shared = copy.deepcopy(
            model, {id(t): t for t in chain(model.parameters(), model.buffers())}
        )
        shared.generation_config = GenerationConfig()
    except Exception:  # hooks and quantized layers may hold anything
        return None
    return shared


class _Forced(LogitsProcessor):  # type: ignore[misc]
    """Makes `generate` write given tokens."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = iter([*tokens, 0])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, next(self._tokens)] = 0
        return forced


def _generated(model: Any, prompt: TokenIds, tokens: Sequence[int]) -> NDArray[np.float32]:
    """float32 [n + 1, V]: logits after `prompt` and each of n tokens, as `generate` has them."""
    ids = torch.from_numpy(prompt.astype(np.int64)[None]).to(model.device)
    steps = (
        type(model)
        .generate(  # a folder's custom_generate/ stands on the object
            model,
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([_Forced(tokens)]),
            max_new_tokens=len(tokens) + 1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        .logits
    )
    rows: NDArray[np.float32] = torch.cat(steps).to("cpu", torch.float32).numpy()
    return rows


class _Accompanied:
    """A seat of a small batch as a cursor; the longer of its two neighbors leaves with a commit."""

    def __init__(self, network: Network, prompt: TokenIds) -> None:
        self._batch = TransformersBatch(network, 3)
        self._longer = self._batch.open(np.concatenate((prompt, prompt)))
        self._shorter = self._batch.open(prompt[:1])
        self._own = self._batch.open(prompt)
        self._seats = [self._longer, self._shorter, self._own]

    @property
    def room(self) -> int | None:
        """Tokens that still fit."""
        return self._own.room

    def score(self, draft: Draft) -> Rows:
        """A pass over the draft and two others."""
        others = [Draft.chain(self._own.context[:2]), Draft.empty()][-len(self._seats) + 1 :]
        return self._batch.score(self._seats, [*others, draft])[-1]

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path."""
        self._own.commit(draft, verdict)
        if len(self._seats) == 3 and len(draft):
            self._seats.pop(0).close()

    def close(self) -> None:
        """Give the caches back."""
        self._batch.close()
