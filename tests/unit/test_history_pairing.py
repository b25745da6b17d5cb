"""History of another tokenizer than the target's is refused before anything is generated."""

from __future__ import annotations

from pathlib import Path

import pytest

from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.errors import TokenizerMismatch
from draftwood.index.fingerprint import vocab_fingerprint
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.store import History
from draftwood.protocols import TargetInfo

VOCAB, OTHER = {"a": 0, "b": 1}, {"a": 0, "c": 1}


def history(path: Path, vocab: dict[str, int]) -> str:
    with HistoryWriter(path, fingerprint=vocab_fingerprint(vocab)) as out:
        out.add([0, 1, 0])
    return str(path)


def test_a_suffix_drafter_refuses_a_history_of_another_tokenizer(tmp_path: Path) -> None:
    drafter = SuffixDrafter(history=history(tmp_path / "h.dw", VOCAB))
    drafter.pair(TargetInfo(VOCAB, 2))
    drafter.pair(TargetInfo(None, 2))  # it does not tell
    with pytest.raises(TokenizerMismatch):
        drafter.pair(TargetInfo(OTHER, 2))


def test_what_a_paired_suffix_drafter_saves_names_the_tokenizer(tmp_path: Path) -> None:
    drafter = SuffixDrafter()
    drafter.pair(TargetInfo(VOCAB, 2))
    assert drafter.save(tmp_path / "h.dw").fingerprint == vocab_fingerprint(VOCAB)
    with pytest.raises(TokenizerMismatch):
        drafter.warm(History.open(history(tmp_path / "other.dw", OTHER)))


def test_a_mixture_checks_the_histories_of_its_drafters(tmp_path: Path) -> None:
    mixed = Hybrid(PromptLookup(), SuffixDrafter(history=history(tmp_path / "h.dw", VOCAB)))
    with pytest.raises(TokenizerMismatch):
        mixed.pair(TargetInfo(OTHER, 2))
