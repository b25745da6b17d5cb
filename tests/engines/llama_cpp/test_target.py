"""llama.cpp as a target: trees and batches give the rows of one token after the other."""

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="pip install 'draftwood[llama-cpp]'")
pytest.importorskip("gguf", reason="pip install 'draftwood[llama-cpp]'")

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.errors import (
    BrokenModel,
    ContextTooLong,
    InvalidDraft,
    InvalidOption,
    InvalidTokens,
)
from draftwood.protocols import Verdict
from draftwood.targets.llama_cpp.target import LlamaCppTarget
from draftwood.testing import random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from tests.engines.llama_cpp.gguf_model import VOCAB, write_gguf

#  0 - 2     1 - 3 - 5     4 after 0
TREE = Draft.tree([7, 19, 33, 4, 58, 21], [ROOT, ROOT, 0, 1, 0, 3])
CHAIN = Draft.chain([7, 33, 4])
PROMPTS = [[3, 10, 31, 5, 12, 40, 9], [3, 10, 31, 5, 1, 2], [8]]
OFF = 2e-2
"""Standard deviations: keys and values are in half precision, and summed in another order."""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    made = LlamaCppTarget(write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf"), threads=1)
    yield made
    made.close()


def alone(target, tokens):
    """The logits after these tokens, computed from nothing."""
    cursor = target.open(as_tokens(tokens))
    row = cursor.score(Draft.empty()).logits(0)
    cursor.close()
    return row


def check(target, rows, context, draft):
    for row in range(len(draft) + 1):
        path = [] if not row else draft.tokens[draft.path(row - 1)].tolist()
        expected = alone(target, [*context, *path])
        assert np.abs(rows.logits(row) - expected).max() < OFF * expected.std()


@pytest.mark.parametrize("node", [ROOT, *range(6)])
def test_a_tree_in_one_decode_and_what_follows_its_commit(target, node):
    cursor = target.open(as_tokens(PROMPTS[0]))
    check(target, cursor.score(TREE), PROMPTS[0], TREE)
    path = TREE.path(node)
    cursor.commit(TREE, Verdict(path, 11))
    context = [*PROMPTS[0], *TREE.tokens[path].tolist(), 11]
    cursor.score(CHAIN)  # a second score replaces the first
    check(target, cursor.score(TREE), context, TREE)
    assert cursor.room == target.context_limit - len(context)
    cursor.close()


def test_sequences_of_a_batch_share_decodes_and_prompts(target):
    batch = target.open_batch(3)
    seats = [batch.open(as_tokens(prompt)) for prompt in PROMPTS]
    drafts = [TREE, CHAIN, TREE]
    for turn, nodes in enumerate([(5, 1, 4), (ROOT, 2, 3), (2, ROOT, 5)]):
        contexts = [seat.tokens.tolist() for seat in seats]
        found = batch.score(seats, drafts)
        for rows, context, draft in zip(found, contexts, drafts, strict=True):
            check(target, rows, context, draft)
        for seat, draft, node in zip(seats, drafts, nodes, strict=True):
            seat.commit(draft, Verdict(draft.path(node), 20 + turn))
    seats.pop(0).close()
    late = batch.open(seats[0].tokens)
    context = late.tokens.tolist()
    *_, rows = batch.score([*seats, late], [CHAIN, TREE, TREE])
    check(target, rows, context, TREE)
    batch.close()


@pytest.mark.parametrize("spec", ["recall:share=8", "lookup", "suffix:mode=tree", "none"])
def test_greedy_text_is_the_same_whatever_is_drafted(target, spec):
    def text(drafter):
        stop = Stop(max_tokens=60)
        steps = list(decode(target, drafter, Greedy(), PROMPTS[0], stop=stop))
        return [token for step in steps for token in step.tokens.tolist()], len(steps)

    expected, _ = text(make_drafter("none"))
    drafter = make_drafter(spec)
    first, _ = text(drafter)
    again, steps = text(drafter)
    assert first == again == expected
    assert steps < 30 or spec in ("lookup", "none")


def test_random_trees_in_a_batch_change_no_text(target):
    def texts(drafter):
        requests = [Request(prompt, Greedy(), Stop(max_tokens=24)) for prompt in PROMPTS]
        found = [[] for _ in PROMPTS]
        for number, step in decode_batch(target, drafter, requests, max_batch=2):
            found[number] += step.tokens.tolist()
        return found

    assert texts(random_trees(VOCAB, seed=2)) == texts(make_drafter("none"))


def test_more_leaves_than_a_decode_has_ids_are_split_or_refused(target):
    wide = Draft.tree(list(range(60)), [ROOT] * 60)
    batch = target.open_batch(6)
    prompts = [[3, 10, at] for at in range(6)]
    seats = [batch.open(as_tokens(prompt)) for prompt in prompts]
    found = batch.score(seats, [wide] * 6)  # 354 ids, of 250 that are free
    check(target, found[5], prompts[5], wide)
    contexts = []
    for node, seat in enumerate(seats):
        seat.commit(wide, Verdict(wide.path(node), 11))
        contexts.append(seat.tokens.tolist())
    found = batch.score(seats, [TREE] * 6)
    for rows, context in zip(found, contexts, strict=True):
        check(target, rows, context, TREE)
    batch.close()
    cursor = target.open(as_tokens(PROMPTS[0]))
    with pytest.raises(InvalidDraft, match="nodes=64"):
        cursor.score(Draft.tree([at % VOCAB for at in range(300)], [ROOT] * 300))
    with pytest.raises(InvalidDraft, match="scored last"):
        cursor.commit(wide, Verdict(wide.path(0), 1))
    cursor.close()


def test_wrong_input_is_refused(target, tmp_path):
    with pytest.raises(InvalidTokens):
        target.open(as_tokens([VOCAB]))
    with pytest.raises(InvalidTokens):
        target.open(as_tokens([]))
    with pytest.raises(ContextTooLong):
        target.open(as_tokens([1] * 256))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(BrokenModel, match="cannot load"):
        LlamaCppTarget(broken)
    path = write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(InvalidOption, match="context is 257"):
        LlamaCppTarget(path, context=257)
    with pytest.raises(InvalidOption, match="threads"):
        LlamaCppTarget(path, threads=0)
