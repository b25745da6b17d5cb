"""What is kept for a model between calls of `generate`: its target, its drafters, its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from draftwood.errors import UnsupportedModel
from draftwood.fork import fork_lock
from draftwood.language_model.drafting import Drafters
from draftwood.protocols import TargetInfo
from draftwood.stats import Stats
from draftwood.targets.transformers.target import TransformersTarget

_NAME = "_draftwood"
"""The attribute of a model that holds it, so that it goes when the model goes."""


class KeptDrafting:
    """Kept on a model from its first call on. Thread-safe as far as the model is.

    drafters: by the specs that calls named, with the history that they share. stats: of all calls.
    """

    def __init__(self) -> None:
        self.drafters = Drafters("none", cost="auto")
        self.stats = Stats()
        self.lock = fork_lock()
        self._target: TransformersTarget | None = None
        self._made_of: tuple[object, ...] = ()
        self._paired = False
        self._tokenizer: Any = None

    @classmethod
    def of(cls, model: Any) -> Self:
        """What is kept for this model."""
        kept = vars(model).get(_NAME)
        if not isinstance(kept, cls):
            kept = cls()
            setattr(model, _NAME, kept)
        return kept

    def __deepcopy__(self, memo: object) -> Self:
        """A copy of the model begins anew: its weights are others."""
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

    def target(self, model: Any, tokenizer: Any) -> TransformersTarget:
        """The target over the model; made anew where weights or attention are others than before.

        tokenizer: of the model, for drafters with a file or a small model; None: the one that lies
        beside the model's weights, if one does.

        Raises:
            UnsupportedModel: for a model that is in training, or whose drafts cannot be verified.
            PairMismatch, TokenizerMismatch: for a drafter of another tokenizer.
        """
        if model.training:
            raise UnsupportedModel(
                f"{type(model).__name__} is in training mode, where its passes are random; call "
                "model.eval() first"
            )
        config = model.config.get_text_config(decoder=True)
        made_of = (
            config._attn_implementation,
            *((id(each), each.data_ptr()) for each in model.parameters()),
        )
        with self.lock:
            if self._target is None or made_of != self._made_of:
                self._target, self._made_of = TransformersTarget(model), made_of
                self._paired = False
            target = self._target
            if not self._paired or tokenizer not in (None, self._tokenizer):
                vocab = _own_vocab(model) if tokenizer is None else tokenizer.get_vocab()
                self.drafters.pair(TargetInfo(vocab, target.vocab_size, target.context_limit))
                self._paired, self._tokenizer = True, tokenizer
        return target


def _own_vocab(model: Any) -> Mapping[str, int] | None:
    """Token text -> id of the tokenizer that was saved with the model; None: there is none here."""
    from transformers import AutoTokenizer

    if not model.name_or_path:
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError):  # none, or one that needs more than this
        return None
    vocab: Mapping[str, int] = tokenizer.get_vocab()
    return vocab


def statistics(model: Any) -> Stats:
    """Acceptance, tokens per step and time over all calls of `generate` with this model so far."""
    return KeptDrafting.of(model).stats


def close_drafters(model: Any) -> None:
    """Close the drafters that calls with this model made from specs, with files and locks.

    The next call begins with new ones.
    """
    kept = vars(model).pop(_NAME, None)
    if isinstance(kept, KeptDrafting):
        kept.drafters.close()
