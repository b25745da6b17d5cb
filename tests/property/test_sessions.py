"""One native step is what its parts are one by one: observe, propose, and the cut in Python."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.budget.cost import CurveCost, GeometricCost, LinearCost
from draftwood.budget.spending import Pass, Spending
from draftwood.draft import Budget, Draft
from draftwood.drafters.recall import RecallDrafter
from draftwood.sessions import Sessions, TokenRows

WORD = st.integers(0, 5)  # few words: everything repeats
TEXT = st.lists(WORD, max_size=40)
STEP = st.lists(st.lists(WORD, min_size=1, max_size=6), min_size=3, max_size=3)
COSTS = [
    None,
    LinearCost(0.001),
    LinearCost(0.2),
    GeometricCost(1.1),
    CurveCost.of([[0, 1.0], [3, 1.0], [4, 1.9], [8, 2.0], [9, 6.0]]),
]


def said(draft):
    return (
        draft.tokens.tolist(),
        draft.parents.tolist(),
        draft.confidence.tolist(),
        draft.source.tolist(),
    )


@settings(max_examples=80)
@given(
    history=st.lists(TEXT, max_size=4),
    prompts=st.lists(TEXT, min_size=3, max_size=3),
    predictions=st.lists(st.lists(TEXT, max_size=2), min_size=3, max_size=3),
    steps=st.lists(STEP, max_size=8),
    cost=st.sampled_from(COSTS),
    nodes=st.integers(0, 12),
    depth=st.integers(0, 8),
    form=st.sampled_from(["lists", "arrays", "starts", "whole"]),
)
def test_a_native_step_is_what_its_parts_are(
    history, prompts, predictions, steps, cost, nodes, depth, form
):
    limit = Budget(nodes, depth)
    ours, theirs = (RecallDrafter(max_tokens=4096) for _ in range(2))
    for text in history:
        ours.recall.add(text)
        theirs.recall.add(text)
    spender, twin = (None if cost is None else Spending(cost, limit=limit) for _ in range(2))
    sessions = Sessions(
        ours, vocab_size=6, context_limit=10_000, nodes=nodes, depth=depth, spender=spender
    )
    streams = []
    for key, (prompt, likely) in enumerate(zip(prompts, predictions, strict=True)):
        sessions.open(key, prompt, prediction=likely)
        answers = [np.array(each, np.int32) for each in likely if each]
        streams.append(theirs.open(np.array(prompt, np.int32), prediction=answers))
    texts = [list(prompt) for prompt in prompts]
    last: list[Draft] | None = None
    asked = False
    for step in [[[], [], []], *steps]:
        before = list(map(len, texts))
        for text, tokens in zip(texts, step, strict=True):
            text += tokens
        drafts = sessions.step([0, 1, 2], rows_of(form, texts, before), whole=form == "whole")
        if twin is not None and last is not None:
            tokens = sum(map(len, step)) / 3
            twin.record(Pass(3, sum(map(len, last)), tokens, max(before), asked, 0.0, 0.0))
        context = max(before) if last is not None else 0
        plan = limit if twin is None else twin.plan(3, context)
        plan = Budget(min(plan.nodes, nodes), min(plan.reach, limit.reach), plan.floor)
        for stream, tokens in zip(streams, step, strict=True):
            stream.observe(np.array(tokens, np.int32))
        empty = Draft.empty()
        expected = [stream.propose(plan) if plan.reach else empty for stream in streams]
        if twin is not None and plan.nodes:
            expected = twin.spend(expected, context)
        assert [said(draft) for draft in drafts] == [said(draft) for draft in expected]
        last, asked = expected, plan.nodes > 0
    assert sessions.failures == {}


def rows_of(form, texts, before):
    if form == "lists":
        return [text[start:] for text, start in zip(texts, before, strict=True)]
    if form == "arrays":
        return [np.array(text[at:], np.int32) for text, at in zip(texts, before, strict=True)]
    matrix = np.full((4, 200 + max(map(len, texts))), -7, np.int32)  # a row and room to spare
    for row, text in zip(matrix, texts, strict=False):
        row[: len(text)] = text
    ends = np.array([*map(len, texts), 99], np.int32)
    if form == "starts":
        return TokenRows(matrix, ends, np.array([*before, 0], np.int32))
    return TokenRows(matrix, ends)


@settings(max_examples=60)
@given(prompts=st.lists(TEXT, min_size=1, max_size=4), nodes=st.integers(1, 12), data=st.data())
def test_padded_masks_are_the_drafts_own(prompts, nodes, data):
    drafter = RecallDrafter(max_tokens=4096, floor=0.0)
    sessions = Sessions(drafter, vocab_size=6, context_limit=1000, nodes=nodes)
    for key, prompt in enumerate(prompts):
        sessions.open(key, prompt)
    drafts = sessions.step(list(range(len(prompts))), [[] for _ in prompts])
    slots, root = data.draw(st.integers(1, 14)), data.draw(st.booleans())
    padded = drafts.padded(slots, root=root, fill=77)
    for at, draft in enumerate(drafts):
        kept = draft.cut(nodes=slots - root)
        first, used = int(root), len(kept) + root
        assert padded.counts[at] == used
        assert padded.tokens[at, first:used].tolist() == kept.tokens.tolist()
        assert (padded.tokens[at, used:] == 77).all()
        mask = padded.mask[at]
        assert (mask[first:used, first:used] == kept.mask()).all()
        assert padded.depths[at, first:used].tolist() == kept.depths.tolist()
        if root:
            assert padded.tokens[at, 0] == (prompts[at][-1] if prompts[at] else 0)
            assert mask[:, 0].all()
            assert not mask[0, 1:].any()
        for slot in range(used, slots):
            assert np.flatnonzero(mask[slot]).tolist() == sorted({*([0] if root else []), slot})


@settings(max_examples=60)
@given(
    prompts=st.lists(st.lists(WORD, max_size=6), min_size=1, max_size=5),
    data=st.data(),
)
def test_every_row_is_found_by_its_content(prompts, data):
    """Rows move, stay away and come back; what is found is always an exact prefix, once."""
    sessions = Sessions(RecallDrafter(max_tokens=4096), vocab_size=6, context_limit=1000)
    texts = dict(enumerate(prompts))
    for key, prompt in texts.items():
        sessions.open(key, prompt)
    for _ in range(data.draw(st.integers(1, 6))):
        order = data.draw(st.permutations(sorted(texts)))
        shown = order[: data.draw(st.integers(0, len(order)))]
        rows = [[*texts[key], data.draw(WORD)] for key in shown]
        found = sessions.recognize(rows)
        known = [key for key in found if key is not None]
        assert len(set(known)) == len(known)
        # There are as many fitting sequences as rows, so none is left over, and every one fits.
        assert len(known) == len(rows)
        for key, row in zip(found, rows, strict=True):
            assert row[: sessions.length(key)] == texts[key]
        sessions.step(found, rows, whole=True)
        texts |= dict(zip(found, rows, strict=True))
    assert sessions.failures == {}


def test_offsets_part_the_flat_arrays():
    drafter = RecallDrafter(max_tokens=4096)
    sessions = Sessions(drafter, vocab_size=9, context_limit=100)
    sessions.open("a", [1, 2, 3, 1, 2, 3, 1])
    sessions.open("b", [])
    drafts = sessions.step(["a", "b", "a"], [[], [], []])
    parts = [drafts.tokens[first:last].tolist() for first, last in pairwise(drafts.offsets)]
    assert parts == drafts.lists()
    assert parts[0]
    assert parts[1] == parts[2] == []
