"""Files that drafters begin with or keep: what they hold, and whose tokenizer they are of."""

from contextlib import closing

import pytest

from draftwood.draft import Budget, as_tokens
from draftwood.drafters.catalog import make_drafter, make_priced_drafter
from draftwood.errors import HistoryBusy, NotAHistory, TokenizerMismatch
from draftwood.index.fingerprint import UNKNOWN, vocab_fingerprint
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.recall import fingerprint_of
from draftwood.protocols import TargetInfo

TEXT = [5, 6, 7, 8, 9, 10, 11, 12]
VOCAB = {"a": 0, "b": 1}
OURS = TargetInfo(VOCAB, 100)
OTHERS = TargetInfo({"b": 0, "a": 1}, 100)
NAMELESS = TargetInfo(None, 100)


@pytest.fixture
def history(tmp_path):
    """A history of ours: one text for everybody and one for a namespace."""
    with HistoryWriter(tmp_path / "h.dw", fingerprint=vocab_fingerprint(VOCAB)) as out:
        out.add(TEXT)
        out.add([50, 51, 52, 53, 54, 55], namespace="acme")
    return tmp_path / "h.dw"


def drafted(drafter, prompt, namespace=""):
    with closing(drafter.open(as_tokens(prompt), namespace=namespace)) as stream:
        return stream.propose(Budget(8)).to_chain().tokens.tolist()


@pytest.mark.parametrize(
    "spec", ["recall:history={}", "suffix:history={}", "recall:history={},cost=auto"]
)
def test_a_history_warms_a_drafter_each_text_in_its_namespace(history, spec):
    drafter = make_priced_drafter(spec.format(history)).drafter
    drafter.pair(OURS)
    assert drafted(drafter, [1, 5, 6, 7])[:3] == [8, 9, 10]
    assert drafted(drafter, [50, 51, 52]) == []
    assert drafted(drafter, [50, 51, 52], "acme")[:2] == [53, 54]
    drafter.close()


@pytest.mark.parametrize(
    "name",
    [
        "recall",
        "suffix",
        "hybrid:first=recall:history={},other=lookup",
        "blend:first=suffix:history={},other=lookup",
    ],
)
def test_a_history_of_another_tokenizer_is_refused(history, name):
    spec = name.format(history) if ":" in name else f"{name}:history={history}"
    drafter = make_drafter(spec)
    drafter.pair(OURS)
    drafter.pair(NAMELESS)
    with pytest.raises(TokenizerMismatch, match=r"h\.dw has tokenizer fingerprint"):
        drafter.pair(OTHERS)


def test_a_history_of_an_unknown_tokenizer_is_taken(tmp_path):
    with HistoryWriter(tmp_path / "h.dw") as out:
        out.add(TEXT)
    drafter = make_drafter(f"recall:history={tmp_path / 'h.dw'}")
    drafter.pair(OTHERS)
    assert drafted(drafter, [5, 6, 7])[:1] == [8]


def test_a_file_that_is_no_history_is_refused_at_once(tmp_path):
    (tmp_path / "h.dw").write_text("no history, but long enough to be read " * 9)
    with pytest.raises(NotAHistory):
        make_drafter(f"recall:history={tmp_path / 'h.dw'}")


def test_a_recall_file_is_created_with_the_targets_fingerprint_and_checked(tmp_path):
    path = tmp_path / "kept.recall"
    drafter = make_drafter(f"recall:path={path}")
    drafter.pair(OURS)
    assert fingerprint_of(path) == vocab_fingerprint(VOCAB)
    drafter.recall.add(TEXT)
    drafter.close()
    again = make_drafter(f"recall:path={path}")
    again.pair(OURS)
    assert drafted(again, [5, 6, 7])[:3] == [8, 9, 10]
    with pytest.raises(TokenizerMismatch, match=r"kept\.recall has tokenizer fingerprint"):
        again.pair(OTHERS)
    with pytest.raises(HistoryBusy):
        make_drafter(f"recall:path={path}")
    again.close()
    make_drafter(f"recall:path={path}").close()


def test_a_recall_file_without_a_target_is_of_an_unknown_tokenizer(tmp_path):
    path = tmp_path / "kept.recall"
    drafter = make_drafter(f"recall:path={path}")
    drafter.recall.add(TEXT)
    drafter.close()
    assert fingerprint_of(path) == UNKNOWN
    again = make_drafter(f"recall:path={path}")
    again.pair(OTHERS)
    again.close()


def test_a_recall_file_is_given_a_history_once(history, tmp_path):
    path = tmp_path / "kept.recall"
    sizes = []
    for _ in range(2):
        drafter = make_drafter(f"recall:path={path},history={history}")
        drafter.pair(OURS)
        assert drafted(drafter, [5, 6, 7])[:3] == [8, 9, 10]
        sizes.append(drafter.recall.written)
        drafter.close()
    assert sizes[0] == sizes[1] > 0
