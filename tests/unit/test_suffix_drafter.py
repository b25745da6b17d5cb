import numpy as np
import pytest

from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.suffix import OWN, SHARED, SuffixDrafter
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict

AMPLE = Budget(64)
NOTHING = Verdict(np.empty(0, dtype=np.int32), None)


def say(stream, tokens):
    """Commit `tokens` that no draft foresaw, one step each."""
    for token in tokens:
        stream.observe(Feedback(Draft.empty(), NOTHING, as_tokens([token])))


def run(drafter, prompt, response, namespace=""):
    """A whole request."""
    stream = drafter.open(as_tokens(prompt), namespace=namespace)
    say(stream, response)
    stream.close()


def ask(drafter, prompt, said=(), *, namespace="", budget=AMPLE):
    """What is drafted behind a prompt and some output."""
    stream = drafter.open(as_tokens(prompt), namespace=namespace)
    say(stream, said)
    return stream.propose(budget)


def test_a_repeat_of_the_prompt_is_copied():
    draft = ask(SuffixDrafter(), [1, 2, 3, 4, 5, 6], [2, 3])
    assert draft.tokens.tolist() == [4, 5]
    assert draft.source.tolist() == [OWN, OWN]
    # "2 3" occurs twice, once at the end of what there is
    assert draft.confidence.tolist() == [0.5, 1.0]


def test_earlier_outputs_are_continued():
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4])
    draft = ask(drafter, [8], [1, 2])
    assert draft.tokens.tolist() == [3, 4]
    assert draft.source.tolist() == [SHARED, SHARED]


def test_outputs_are_shared_while_they_are_generated():
    drafter = SuffixDrafter()
    running = drafter.open(as_tokens([9]))
    say(running, [1, 2, 3])
    assert ask(drafter, [8], [1]).tokens.tolist() == [2]
    say(running, [4])
    assert ask(drafter, [8], [1, 2, 3]).tokens.tolist() == [4]


def test_prompts_are_not_shared():
    drafter = SuffixDrafter()
    run(drafter, [1, 2, 3, 4], [9])
    assert not len(ask(drafter, [8], [1, 2]))


def test_the_better_score_wins_and_equal_scores_are_the_requests_own():
    drafter = SuffixDrafter()
    for _ in range(3):
        run(drafter, [9], [1, 2, 3])
    # own: 1 -> 7 with 1/2; shared: 1 -> 2 with 3/4
    assert ask(drafter, [1, 7], [1]).source.tolist() == [SHARED]
    one = SuffixDrafter()
    run(one, [9], [1, 2, 3])
    assert ask(one, [1, 7], [1]).tokens.tolist() == [7]


def test_a_match_may_begin_in_the_prompt():
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4, 5, 6])
    assert ask(drafter, [8, 2, 3]).tokens.tolist() == [4, 5]


def test_namespaces_never_meet():
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4], namespace="a")
    assert not len(ask(drafter, [8], [1, 2], namespace="b"))
    assert ask(drafter, [8], [1, 2], namespace="a").tokens.tolist() == [3, 4]


def test_budgets_and_the_drafters_own_limit_hold():
    prompt = list(range(40)) * 2
    assert len(ask(SuffixDrafter(), prompt, budget=AMPLE)) == 32
    assert len(ask(SuffixDrafter(nodes=5), prompt)) == 5
    assert len(ask(SuffixDrafter(), prompt, budget=Budget(3))) == 3
    tree = ask(SuffixDrafter(mode="tree", floor=0.0), prompt, budget=Budget(16, depth=2))
    assert tree.height == 2
    assert not len(ask(SuffixDrafter(), prompt, budget=Budget(0)))


def test_alpha_floor_depth_and_mode_reach_the_trees():
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 2]
    assert ask(SuffixDrafter(alpha=3.0), prompt).tokens.tolist() == [3, 4, 5]
    assert ask(SuffixDrafter(alpha=3.0, depth=3), prompt).tokens.tolist() == [3, 4]
    assert not len(ask(SuffixDrafter(floor=0.6), prompt))
    assert len(ask(SuffixDrafter(floor=0.6, counts="paper"), prompt)) == 1
    forked = [1, 2, 1, 3, 1]
    draft = ask(SuffixDrafter(alpha=4.0, floor=0.0, mode="tree"), forked, budget=Budget(2))
    assert sorted(draft.tokens.tolist()) == [2, 3]
    assert draft.parents.tolist() == [-1, -1]


def test_proposing_does_not_move():
    stream = SuffixDrafter().open(as_tokens([1, 2, 3, 1, 2]))
    first, second = stream.propose(AMPLE), stream.propose(AMPLE)
    assert first.tokens.tolist() == second.tokens.tolist() == [3, 1]


def test_a_long_prompt_is_remembered_whole():
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 1000, 100_000, dtype=np.int32)
    stream = SuffixDrafter(counts="paper").open(prompt)
    say(stream, prompt[500:504].tolist())
    assert stream.propose(AMPLE).tokens.tolist() == prompt[504:508].tolist()
    stream.close()


def test_a_request_without_output_leaves_nothing():
    drafter = SuffixDrafter()
    run(drafter, [1, 2, 3], [])
    assert drafter.shared().sequences == 0


def test_several_requests_interleave():
    drafter = SuffixDrafter()
    first, second = (drafter.open(as_tokens([9])) for _ in range(2))
    for token in (1, 2, 3, 4):
        say(first, [token])
        say(second, [token + 10])
    assert first.propose(AMPLE).tokens.tolist() == []
    assert ask(drafter, [8], [11, 12]).tokens.tolist() == [13, 14]
    assert drafter.shared().sequences == 3
    assert drafter.nbytes > 0


def test_options_outside_their_range_are_refused():
    for bad in ({"nodes": -1}, {"depth": 1}, {"mode": "forest"}, {"floor": 2.0}):
        with pytest.raises(InvalidOption):
            SuffixDrafter(**bad)
