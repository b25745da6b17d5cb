"""Trees for the requests of an SGLang worker, in fixed slots."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood import _native
from draftwood.errors import InvalidOption
from draftwood.serving.engine_sessions import EngineSessions, EngineShape
from draftwood.serving.housekeeping import Housekeeping
from draftwood.serving.options import EngineOptions, RequestFacts

OPTIONS = "DRAFTWOOD_OPTIONS"
"""SGLang hands a plugin no options of its own, so they stand in the environment."""


class TreeDrafting:
    """Fills the slots of each row with a tree of what its text may say next.

    slots: of a row; slot 0 is its last token. What goes wrong costs drafts, never a pass.
    """

    def __init__(self, sessions: EngineSessions, slots: int) -> None:
        self.sessions = sessions
        self._slots = slots

    def fill(
        self, trees: NDArray[np.int32], requests: Sequence[Any], previous: Sequence[list[int]]
    ) -> None:
        """Write tokens and parents into int32 [2, rows, slots].

        previous: for each row the tokens that belong behind its text. Slots that a tree does not
        need continue its last node one below the other: as siblings they would be drafted twice
        under one parent, and a sampled token would be accepted too often.
        """
        tokens, parents = trees
        parents[:] = np.arange(-1, self._slots - 1)
        texts = [_Text(request, new) for request, new in zip(requests, previous, strict=True)]
        tokens[:, 0] = [text.last for text in texts]
        try:
            named = {request.rid: request for request in requests}
            if len(self.sessions) > 2 * len(requests) + 64:  # some left without a word
                self.sessions.keep(named)
            drafts = self.sessions.draft(
                list(named),
                texts,
                [text.length for text in texts],
                lambda rid: _facts(named[rid], self.sessions.shape.context_limit),
            )
            for row, draft in enumerate(drafts):
                count = len(draft)
                tokens[row, 1 : count + 1] = draft.tokens
                parents[row, 1 : count + 1] = draft.parents + 1
        except Exception:
            self.sessions.failed("rows")
            tokens[:, 1:] = 0
            parents[:] = np.arange(-1, self._slots - 1)


def masks_of(parents: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Who sees whom: bool [rows, slots, slots]; a slot sees itself and its ancestors."""
    rows, slots = parents.shape
    masks = np.empty((rows, slots, slots), np.bool_)
    depths = np.empty((rows, slots), np.int32)
    ends = np.arange(0, rows * slots + 1, slots, dtype=np.int32)
    _native.fill_tree_masks(parents.reshape(-1), ends, slots, False, masks, depths)
    return masks


def drafting_of(target_worker: Any, slots: int, *, trees: bool) -> TreeDrafting:
    """For a worker's model, with a thread that keeps house; closed when the process exits.

    Raises:
        DraftwoodError, OSError: for options or a history that cannot be used.
    """
    options, model, tokenizer = (
        options_of_environment(),
        target_worker.model_config,
        target_worker.tokenizer,
    )
    kept = options.path is not None or options.replicas is not None
    known = kept and tokenizer is not None
    shape = EngineShape(
        vocab_size=model.vocab_size,
        context_limit=model.context_len,
        nodes=slots - 1,
        vocab=dict(tokenizer.get_vocab()) if known else None,
        tokenize=None
        if tokenizer is None
        else lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        trees=trees,
        logger="sglang.draftwood",
        model=str(model.model_path) if options.replicas else "",
    )
    sessions = EngineSessions(shape, options)
    keeper = Housekeeping(sessions, f"sglang-{os.getpid()}")
    Finalize(None, keeper.stop, exitpriority=1)  # children of multiprocessing run no atexit
    return TreeDrafting(sessions, slots)


def options_of_environment() -> EngineOptions:
    """The options in the environment.

    Raises:
        InvalidOption: text that is no JSON object of known options.
    """
    text = os.environ.get(OPTIONS, "")
    try:
        given = json.loads(text) if text else None
    except ValueError as error:
        raise InvalidOption(f"{OPTIONS} is {text!r}, which is no JSON: {error}") from None
    return EngineOptions.read(given)


class _Text:
    """The tokens of a request: its prompt, its output, and what belongs behind them."""

    __slots__ = ("_parts", "length")

    def __init__(self, request: Any, new: list[int]) -> None:
        self._parts = (request.origin_input_ids_unpadded, request.output_ids, new)
        self.length = sum(map(len, self._parts))

    @property
    def last(self) -> int:
        return int(next(part[-1] for part in reversed(self._parts) if len(part)))

    def __getitem__(self, part: slice) -> list[int]:
        first, last, _ = part.indices(self.length)
        found: list[int] = []
        for tokens in self._parts:
            if first < len(tokens) and last > 0:
                found.extend(tokens[max(first, 0) : last])
            first, last = first - len(tokens), last - len(tokens)
        return found


def _facts(request: Any, context_limit: int) -> RequestFacts:
    """Of SGLang's own record of a request."""
    sampling, tokenizer = request.sampling_params, request.tokenizer
    stops: set[int] = set()
    if not sampling.ignore_eos:
        stops.update(sampling.stop_token_ids or (), request.eos_token_ids or ())
        if tokenizer is not None:
            stops.update(tokenizer.additional_stop_token_ids or ())
            if tokenizer.eos_token_id is not None:
                stops.add(tokenizer.eos_token_id)
    prompt, extra = len(request.origin_input_ids_unpadded), sampling.custom_params
    return RequestFacts(
        prompt=prompt,
        end=min(prompt + sampling.max_new_tokens, context_limit),
        stops=frozenset(stops),
        extra=extra if isinstance(extra, Mapping) else None,
        salt=request.cache_salt,
        adapter=request.lora_id,
    )
