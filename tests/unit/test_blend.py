"""One tree out of several drafts; each drafter hears how its own went."""

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.mix.blend import OPINIONS, Agreement, Blend, Merged
from draftwood.errors import InvalidOption, InvalidSpec, PairMismatch
from draftwood.protocols import Feedback, TargetInfo, Verdict
from draftwood.sources import RECYCLED
from draftwood.stats import Stats
from draftwood.testing import ToyTarget, greedy_text, hash_model, oracle, raising, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

PROMPT = as_tokens([1, 2, 3])
VOCAB_SIZE = 12

#  first: 4 - 5 - 6        other: 4 - 7
#                                 8
FIRST = Draft.chain([4, 5, 6], confidence=[0.9, 0.8, 0.7])
OTHER = Draft.tree([4, 7, 8], [-1, 0, -1], confidence=[0.5, 0.3, 0.2])


class Scripted:
    """A drafter and its stream in one: proposes what it was given, remembers what it is told."""

    def __init__(self, draft):
        self.draft, self.told, self.closed, self.asked = draft, [], 0, []

    def open(self, prompt, *, namespace=""):
        return self

    def propose(self, budget):
        self.asked.append(budget)
        return self.draft

    def observe(self, feedback):
        self.told.append(feedback)

    def close(self):
        self.closed += 1


def paths(draft):
    return {tuple(draft.tokens[draft.path(node)].tolist()) for node in range(len(draft))}


def told(draft, path, next_token):
    verdict = Verdict(np.array(path, dtype=np.int32), next_token)
    return Feedback(draft, verdict, verdict.tokens(draft))


def test_equal_paths_are_one_node_and_the_rest_is_joined():
    draft = Blend([Scripted(FIRST), Scripted(OTHER)]).open(PROMPT).propose(Budget(8))
    assert len(draft) == 5
    assert paths(draft) == {(4,), (4, 5), (4, 5, 6), (4, 7), (8,)}


def test_nodes_come_best_first_so_that_any_prefix_is_the_best_of_its_size():
    stream = Blend([Scripted(FIRST), Scripted(OTHER)]).open(PROMPT)
    whole = stream.propose(Budget(8))
    values = []
    for parent, sure in zip(whole.parents, whole.confidence, strict=True):
        values.append(sure * (1.0 if parent < 0 else values[parent]))
    assert values == sorted(values, reverse=True)
    for nodes in range(6):
        assert paths(stream.propose(Budget(nodes))) == paths(whole.cut(nodes=nodes))


def test_a_node_is_of_the_drafter_that_is_surest_of_it():
    first, other = (
        Scripted(Draft.tree(each.tokens, each.parents, confidence=each.confidence, source=source))
        for source, each in ((64, FIRST), (65, OTHER))
    )
    draft = Blend([other, first]).open(PROMPT).propose(Budget(8))
    by_path = {tuple(draft.tokens[draft.path(n)].tolist()): draft.source[n] for n in range(5)}
    assert by_path == {(4,): 64, (4, 5): 64, (4, 5, 6): 64, (4, 7): 65, (8,): 65}


def test_a_floor_drops_what_is_worth_less():
    stream = Blend([Scripted(FIRST), Scripted(OTHER)]).open(PROMPT)
    assert paths(stream.propose(Budget(8, floor=0.4))) < paths(stream.propose(Budget(8)))


def test_what_one_leaves_free_is_filled_by_the_other():
    stream = Blend([Scripted(Draft.empty()), Scripted(OTHER)]).open(PROMPT)
    assert paths(stream.propose(Budget(8))) == paths(OTHER)


def test_each_drafter_is_told_about_its_own_draft():
    first, other = Scripted(FIRST), Scripted(OTHER)
    stream = Blend([first, other]).open(PROMPT)
    draft = stream.propose(Budget(2))  # 4 - 5
    assert draft.tokens.tolist() == [4, 5]
    feedback = told(draft, [0], 7)  # the text is 4 7
    stream.observe(feedback)
    (of_first,), (of_other,) = first.told, other.told
    for each in (of_first, of_other):
        assert each.tokens.tolist() == [4, 7]
        assert each.rows is None
        assert each.verified is feedback
    assert of_first.draft.tokens.tolist() == [4, 5]  # within its budget
    assert (of_first.verdict.path.tolist(), of_first.verdict.next_token) == ([0], 7)
    # `7` was cut off the blend, but the other drafter was right about it
    assert (of_other.verdict.path.tolist(), of_other.verdict.next_token) == ([0, 1], None)


def test_retelling_stops_where_the_draft_left_the_text():
    feedback = told(Draft.chain([4, 5, 6]), [0, 1, 2], 9)
    again = feedback.for_draft(OTHER)
    assert (again.verdict.path.tolist(), again.verdict.next_token) == ([0], 5)
    assert again.for_draft(FIRST).verified is feedback


def test_a_failing_drafter_costs_its_own_nodes_only():
    row = hash_model(VOCAB_SIZE)
    expected = greedy_text(row, PROMPT.tolist(), 24)
    right = oracle([*PROMPT.tolist(), *expected], vocab_size=VOCAB_SIZE)
    for others in ([raising()], [raising(after=2)], [random_trees(VOCAB_SIZE), raising(after=1)]):
        steps = list(
            decode(ToyTarget(row), Blend([right, *others]), Greedy(), PROMPT, stop=Stop(24))
        )
        assert [token for step in steps for token in step.tokens.tolist()] == expected
        assert Stats.of(steps).tokens_per_step > 4


def test_sampled_drafts_are_left_out(caplog):
    sampled = Draft.chain([4, 5], proposal=np.ones((2, VOCAB_SIZE)))
    stream = Blend([Scripted(sampled), Scripted(OTHER)]).open(PROMPT)
    assert paths(stream.propose(Budget(8))) == paths(OTHER)
    assert "2 sampled tokens" in caplog.text


def test_the_source_that_is_right_is_worth_more_in_the_end():
    #  both have one child and equal confidence; only the other's ever comes
    first, other = (Scripted(Draft.chain([token], confidence=0.5)) for token in (4, 5))
    stream = Blend([first, other]).open(PROMPT)
    assert stream.propose(Budget(1)).tokens.tolist() == [4]
    for _ in range(30):
        stream.observe(told(stream.propose(Budget(2)), [], 5))
    assert stream.propose(Budget(1)).tokens.tolist() == [5]


def test_agreement_is_learned():
    agreement = Agreement()
    assert agreement.confidence(33, 0.5) == 0.5
    agreement.learn([(33, True)] * 92)
    assert agreement.confidence(33, 0.5) == pytest.approx(0.96)
    assert agreement.confidence(3, 0.5) == 0.5


def test_opinions_tell_silence_from_another_choice():
    merged = Merged([FIRST, OTHER], Agreement())
    came = dict(merged.outcomes([4, 7]))
    assert len(came) == 4
    silent = dict(Merged([Draft.empty(), OTHER], Agreement()).outcomes([4, 7]))
    assert {opinion % OPINIONS for opinion in silent} == {0}
    assert {opinion % OPINIONS for opinion in came} == {1, 8, 9}


def test_text_is_the_targets_whatever_is_blended():
    row = hash_model(VOCAB_SIZE, order=2)
    expected = greedy_text(row, [1, 2, 3], 60)
    blend = Blend([random_trees(VOCAB_SIZE), make_drafter("recycled"), make_drafter("recall")])
    for trees in (True, False):
        steps = decode(ToyTarget(row, trees=trees), blend, Greedy(), PROMPT, stop=Stop(60))
        assert [token for step in steps for token in step.tokens.tolist()] == expected


def test_recycled_logits_hear_of_rows_that_another_drafter_paid_for():
    row = hash_model(VOCAB_SIZE, order=1)
    blend = make_drafter("blend:first=lookup,other=recycled")
    list(decode(ToyTarget(row), blend, Greedy(), PROMPT, stop=Stop(40)))
    again = list(decode(ToyTarget(row), blend, Greedy(), PROMPT, stop=Stop(40)))
    assert Stats.of(again).tokens_per_step > 4
    assert any((step.draft.source == RECYCLED).any() for step in again)


def test_closing_closes_all_and_closing_the_blend_ends_its_drafters():
    first, other = Scripted(FIRST), Scripted(OTHER)
    blend = Blend([first, other])
    blend.open(PROMPT).close()
    assert (first.closed, other.closed) == (1, 1)
    blend.close()
    assert (first.closed, other.closed) == (2, 2)


def test_a_drafter_that_does_not_suit_the_target_is_named_first():
    class Unsuitable(Scripted):
        def pair(self, target_info):
            raise PairMismatch("another tokenizer")

    blend = Blend([Scripted(FIRST), Unsuitable(OTHER)])
    with pytest.raises(PairMismatch):
        blend.pair(TargetInfo(None, VOCAB_SIZE, None))


def test_wider_drafters_share_what_they_know():
    blend = make_drafter("blend:first=lookup,other=recycled,nodes=4")
    wide = blend.with_nodes(64)
    assert (blend.nodes, wide.nodes) == (4, 64)
    assert wide.parts[1].table is blend.parts[1].table
    assert wide.parts[1].nodes == 64


@pytest.mark.parametrize("count", [0, 1])
def test_refuses_fewer_than_two(count):
    with pytest.raises(InvalidOption, match=f"a blend of {count} drafters"):
        Blend([Scripted(FIRST)] * count)


def test_specs():
    blend = make_drafter("blend:first=recall:nodes=8;mode=chain,other=recycled:k=4,third=lookup")
    assert [type(part).__name__ for part in blend.parts] == [
        "RecallDrafter",
        "RecycledDrafter",
        "PromptLookup",
    ]
    assert blend.parts[0].nodes == 8
    with pytest.raises(InvalidSpec, match="'recal'"):
        make_drafter("blend:first=recal")
    with pytest.raises(InvalidOption, match="nodes is -1"):
        make_drafter("blend:nodes=-1")
