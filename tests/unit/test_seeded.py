"""Drafts that look up the noise: what they gain, what they leave alone, and when they rest."""

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.seeded import Lead, NoiseLookahead
from draftwood.drafters.win_probability import NoiseTrust, WinProbability
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict
from draftwood.sampling.law import Sampling
from draftwood.stats import Stats
from draftwood.testing import DraftFrom, ToyTarget, oracle, raising, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

PROMPT = as_tokens([1, 2, 3])
VOCAB_SIZE = 12
SMALL = Budget(4)
LAW = Sampling(temperature=1.0)
SHARES = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.05, 0.04, 0.03, 0.02, 0.01, 0.01, 0.01])


def flat(prefix):
    """A model whose law is always the same: all that is unsure about it is chance."""
    return np.log(np.roll(SHARES, sum(prefix[-2:])))


def knowing(context, budget):
    """The law itself, below every node, as far as the budget goes."""
    tokens, parents, confidence = [], [], []
    rows = [(-1, tuple(context), 1.0)]
    open_nodes = []
    for parent, path, value in rows:
        shares = np.exp(flat(path))
        open_nodes += [(value * shares[t], parent, path, t, shares[t]) for t in range(VOCAB_SIZE)]
    while open_nodes and len(tokens) < budget.nodes:
        best = max(range(len(open_nodes)), key=lambda at: open_nodes[at][0])
        value, parent, path, token, sure = open_nodes.pop(best)
        node = len(tokens)
        tokens.append(token)
        parents.append(parent)
        confidence.append(sure)
        path = (*path, token)
        if len(path) - len(context) < budget.reach:
            shares = np.exp(flat(path))
            open_nodes += [(value * shares[t], node, path, t, shares[t]) for t in range(VOCAB_SIZE)]
    return Draft.tree(tokens, parents, confidence=confidence)


def run(drafter, seed, *, budget=SMALL, count=40):
    verifier = SharedGumbel(GumbelNoise(seed), LAW)
    target = ToyTarget(flat)
    steps = list(decode(target, drafter, verifier, PROMPT, budget=budget, stop=Stop(count)))
    return [token for step in steps for token in step.tokens.tolist()], Stats.of(steps)


def known(draft):
    return NoiseLookahead(DraftFrom(lambda context, budget: draft), nodes=8)


def test_the_noise_of_many_nodes_is_that_of_each():
    noise = GumbelNoise(7)
    positions, tokens = [5, 9, 5, 6], [3, 3, 0, 11]
    table = noise.table(positions, tokens)
    assert table.tolist() == [
        noise.at(position, [token])[0] for position, token in zip(positions, tokens, strict=True)
    ]
    assert noise.table([], []).tolist() == []


def test_where_the_law_is_known_the_winner_gets_all_the_trust():
    draft = Draft.tree([4, 5, 6], [-1, -1, -1], confidence=[0.5, 0.3, 0.2])
    noise = np.array([0.0, 9.0, 0.0])
    trust = NoiseTrust()
    even = WinProbability(draft, noise)
    assert even.under(trust).tolist() == pytest.approx([0.25, 0.65, 0.1], abs=0.01)
    for _ in range(200):
        trust.learn(even.seen([5]))
    assert even.under(trust)[1] > 0.95
    for _ in range(3000):  # the likeliest comes whatever the noise says: confidence was no law
        trust.learn(even.seen([4]))
    assert even.under(trust).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.05)


def test_win_probabilities_leave_room_for_what_is_no_candidate():
    draft = Draft.tree([4], [-1], confidence=[0.1])
    low, high = (WinProbability(draft, np.array([g])) for g in (-2.0, 8.0))
    assert low.under(NoiseTrust())[0] == pytest.approx(0.05, abs=0.01)  # half the trust says 0.1
    assert high.under(NoiseTrust())[0] == pytest.approx(0.55, abs=0.01)


def test_a_confidence_that_is_no_number_does_no_harm():
    draft = Draft.tree([4, 5], [-1, -1], confidence=[np.nan, 3.0])
    assert np.isfinite(WinProbability(draft, np.zeros(2)).under(NoiseTrust())).all()


def test_drafts_that_see_the_noise_save_steps_where_the_law_is_open():
    gains = []
    for seed in range(4):
        plain, without = run(DraftFrom(knowing), seed)
        text, seen = run(NoiseLookahead(DraftFrom(knowing), nodes=4).under(GumbelNoise(seed)), seed)
        assert text == plain
        gains.append(seen.tokens_per_step / without.tokens_per_step)
    assert np.mean(gains) > 1.1


class Wide:
    """The law itself, and more of it on demand."""

    nodes = 4

    def __init__(self, nodes=4):
        self.nodes = nodes

    def open(self, prompt, *, namespace=""):
        limit = self.nodes
        within = lambda context, budget: knowing(  # noqa: E731
            context, Budget(min(limit, budget.nodes), budget.depth)
        )
        return DraftFrom(within).open(prompt)

    def with_nodes(self, nodes):
        return Wide(nodes)


def test_among_more_candidates_the_noise_finds_the_right_ones():
    lookahead = NoiseLookahead(Wide(), width=4)
    gains = []
    for seed in range(8):
        plain, without = run(Wide(), seed)
        text, seen = run(lookahead.under(GumbelNoise(seed)), seed)
        assert text == plain
        assert seen.drafted_per_step <= 4
        gains.append(seen.tokens_per_step / without.tokens_per_step)
    assert np.mean(gains) > 1.1


@pytest.mark.parametrize(
    "name", ["oracle", "trees", "chains", "failing", "blend", "lookup", "none"]
)
def test_no_text_depends_on_it(name):
    drafters = {
        "oracle": oracle([1, 2, 3, 4, 5, 6, 7], vocab_size=VOCAB_SIZE),
        "trees": random_trees(VOCAB_SIZE),
        "chains": random_trees(VOCAB_SIZE, chains=True),
        "failing": raising(after=2),
    }
    lookahead = NoiseLookahead(drafters.get(name) or make_drafter(name))
    for seed in (1, 2):
        plain, _ = run(make_drafter("none"), seed)
        assert run(lookahead.under(GumbelNoise(seed)), seed, budget=Budget(16))[0] == plain
        # nor on the noise being the right one
        assert run(lookahead.under(GumbelNoise(9)), seed, budget=Budget(16))[0] == plain


def test_drafts_keep_budget_and_order():
    stream = NoiseLookahead(Wide(64), width=2).under(GumbelNoise(3)).open(PROMPT)
    for budget in (Budget(12), Budget(12, 2), Budget(0), Budget(12, floor=0.05)):
        draft = stream.propose(budget)
        values = []
        for parent, sure in zip(draft.parents, draft.confidence, strict=True):
            values.append(sure * (1.0 if parent < 0 else values[parent]))
        assert len(draft) <= budget.nodes
        assert draft.height <= budget.reach
        assert all(value >= budget.floor for value in values)
        assert values == sorted(values, reverse=True)


def test_sampled_drafts_pass_untouched():
    sampled = Draft.chain([4, 5], proposal=np.ones((2, VOCAB_SIZE)))
    stream = known(sampled).under(GumbelNoise(3)).open(PROMPT)
    assert stream.propose(Budget(8)) is sampled
    verdict = Verdict(np.array([0], dtype=np.int32), 9)
    stream.observe(Feedback(sampled, verdict, verdict.tokens(sampled)))


def test_it_rests_where_it_does_not_gain_and_looks_again():
    lead = Lead()
    asked = []
    for _ in range(200):
        asked.append(lead.asks())
        lead.learn(seeded=1, plain=1)
    assert all(asked[:128])
    assert sum(asked[128:]) == 9
    for _ in range(20):
        lead.learn(seeded=3, plain=1)
    assert lead.pays
    assert all(lead.asks() for _ in range(20))


@pytest.mark.parametrize("options", [{"nodes": -1}, {"width": 0}])
def test_refuses_options_that_are_none(options):
    with pytest.raises(InvalidOption, match="nodes is"):
        NoiseLookahead(Wide(), **options)


def test_the_largest_draft_is_the_drafters_own():
    assert NoiseLookahead(make_drafter("recycled:nodes=7")).nodes == 7
    assert NoiseLookahead(make_drafter("lookup")).nodes is None
