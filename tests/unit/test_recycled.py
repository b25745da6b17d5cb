"""What the target found likely becomes drafts; what it holds is bounded and stays in its space."""

import threading

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.recycled import RecycledDrafter, likely_tokens, share_class
from draftwood.errors import InvalidOption, UnsupportedModel
from draftwood.index.recycled import ALONE, RecycledTable
from draftwood.protocols import Feedback, Verdict
from draftwood.stats import Stats
from draftwood.testing import ToyTarget, greedy_text, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

VOCAB_SIZE = 12


class Rows:
    """Rows as a table of probabilities."""

    def __init__(self, shares):
        self._shares = np.array(shares)
        self.context = as_tokens([])

    def argmax(self):
        return self._shares.argmax(1)

    def logits(self, row):
        return np.log(self._shares[row])


def after(best, second=0, share=0.7):
    row = np.full(VOCAB_SIZE, 0.01)
    row[second] = 0.2
    row[best] = share
    return row / row.sum()


def told(draft, path, next_token, rows):
    verdict = Verdict(np.array(path, dtype=np.int32), next_token)
    return Feedback(draft, verdict, verdict.tokens(draft), Rows(rows))


def entry(table, before, last, space=1):
    found = table.find(space, before, last)
    return None if found is None else dict(zip(*found, strict=True))


def add(table, space, before, last, tokens, shares):
    table.add(
        space,
        as_tokens(last) * 0 + np.int32(before),
        as_tokens(last),
        np.array([tokens], dtype=np.int32),
        np.array([shares], dtype=np.float32),
    )


def test_a_row_stands_under_the_last_two_tokens_and_under_the_last():
    table = RecycledTable(64, k=2)
    add(table, 1, 5, [6], [7, 8], [0.75, 0.25])
    assert entry(table, 5, 6) == {7: 0.75, 8: 0.25}
    assert entry(table, ALONE, 6) == {7: 0.75, 8: 0.25}
    assert entry(table, 4, 6) is None


def test_rows_of_the_same_tokens_are_averaged_and_the_likeliest_stay():
    table = RecycledTable(64, k=2)
    add(table, 1, 5, [6], [7, 8], [0.75, 0.25])
    add(table, 1, 4, [6], [8, 9], [0.625, 0.375])
    assert entry(table, ALONE, 6) == {8: 0.4375, 7: 0.375}
    assert entry(table, 4, 6) == {8: 0.625, 9: 0.375}


def test_without_a_memory_the_newest_row_counts():
    table = RecycledTable(64, k=2, kept=0.0)
    add(table, 1, 5, [6], [7, 8], [0.75, 0.25])
    add(table, 1, 5, [6], [8, 9], [0.625, 0.375])
    assert entry(table, 5, 6) == {8: 0.625, 9: 0.375}


def test_namespaces_do_not_meet():
    table = RecycledTable(64, k=2)
    add(table, 1, 5, [6], [7, 8], [0.75, 0.25])
    assert entry(table, 5, 6, space=2) is None
    assert entry(table, ALONE, 6, space=2) is None


def test_namespaces_do_not_meet_where_they_share_a_slot():
    """Of two slots, every other namespace has the one that is filled."""
    table = RecycledTable(2, k=2)
    add(table, 1, 5, [6], [7, 8], [0.75, 0.25])
    for space in range(2, 40):
        assert entry(table, 5, 6, space) is None
        assert entry(table, ALONE, 6, space) is None


def test_memory_is_fixed_and_the_newest_entries_stay():
    table = RecycledTable(16, k=2)
    before = table.nbytes
    assert before == 16 * (16 + 8 * 2)
    for token in range(500):
        add(table, 1, 5, [token], [7, 8], [0.75, 0.25])
    assert table.nbytes == before
    assert entry(table, 5, 499) == {7: 0.75, 8: 0.25}
    assert sum(entry(table, ALONE, token) is not None for token in range(500)) <= 16


def test_python_and_numpy_agree_where_an_entry_lies():
    table = RecycledTable(2**16, k=1)
    random = np.random.default_rng(0)
    pairs = random.integers(0, 2**31, (200, 2))
    space = 2**64 - 3
    for before, last in pairs.tolist():
        table.add(
            space,
            as_tokens([before]),
            as_tokens([last]),
            np.array([[last % 97]], dtype=np.int32),
            np.array([[0.5]], dtype=np.float32),
        )
    found = [entry(table, before, last, space) for before, last in pairs.tolist()]
    assert sum(each == {last % 97: 0.5} for each, (_, last) in zip(found, pairs, strict=True)) > 190


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 100}, "slots is 100"),
        ({"k": 0}, "k is 0"),
        ({"kept": 1.0}, r"kept is 1\.0"),
        ({"nodes": -1}, "nodes is -1"),
        ({"floor": 2.0}, r"floor is 2\.0"),
    ],
)
def test_refuses_options_that_are_none(options, message):
    with pytest.raises(InvalidOption, match=message):
        RecycledDrafter(**options)


def test_drafts_follow_what_the_target_said_rejected_branches_included():
    drafter = RecycledDrafter(floor=0.0)
    stream = drafter.open(as_tokens([1, 2]))
    assert not len(stream.propose(Budget(8)))
    #  2 - 3 (accepted) - 4 next;   2 - 5 (rejected), behind which the target would say 6
    draft = Draft.tree([3, 5], [-1, -1])
    stream.observe(told(draft, [0], 4, [after(3), after(4), after(6)]))
    other = drafter.open(as_tokens([9, 5]))  # `5` was rejected, yet what follows it is known
    proposed = other.propose(Budget(1))
    assert proposed.tokens.tolist() == [6]
    again = drafter.open(as_tokens([1, 2])).propose(Budget(2, floor=0.2))
    assert again.tokens.tolist() == [3, 4]
    assert again.parents.tolist() == [-1, 0]


def test_two_tokens_of_context_count_more_than_one():
    drafter = RecycledDrafter(floor=0.0)
    for before, best in ((1, 3), (7, 8)):
        stream = drafter.open(as_tokens([before, 2]))
        stream.observe(told(Draft.empty(), [], best, [after(best)]))
    for before, best in ((1, 3), (7, 8)):
        draft = drafter.open(as_tokens([before, 2])).propose(Budget(1))
        assert draft.tokens.tolist() == [best]
        assert draft.evidence.tolist() == [1]
    assert drafter.open(as_tokens([6, 2])).propose(Budget(1)).evidence.tolist() == [0]


def test_drafts_are_best_first_and_within_their_budget():
    drafter = RecycledDrafter(floor=0.0)
    stream = drafter.open(as_tokens([1, 2]))
    for token in [2, 3, 4, 5, 2, 3, 4, 5, 2]:
        stream.observe(told(Draft.empty(), [], token, [after(token, second=(token + 3) % 9)]))
    for budget in (Budget(12), Budget(12, 2), Budget(3, 3), Budget(0), Budget(12, floor=0.3)):
        draft = stream.propose(budget)
        values = []
        for parent, sure in zip(draft.parents, draft.confidence, strict=True):
            values.append(sure * (1.0 if parent < 0 else values[parent]))
        assert len(draft) <= budget.nodes
        assert draft.height <= budget.reach
        assert all(value >= budget.floor for value in values)
        # classes of shares may be learned out of order, by one outcome of many
        assert all(values[i] >= values[i + 1] * 0.8 for i in range(len(values) - 1))
        assert len({*zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)}) == len(draft)


def test_what_is_learned_in_a_namespace_stays_there():
    drafter = RecycledDrafter(floor=0.0)
    stream = drafter.open(as_tokens([1, 2]), namespace="a")
    stream.observe(told(Draft.empty(), [], 3, [after(3)]))
    assert len(drafter.open(as_tokens([1, 2]), namespace="a").propose(Budget(4)))
    assert not len(drafter.open(as_tokens([1, 2]), namespace="b").propose(Budget(4)))
    assert not len(drafter.open(as_tokens([1, 2])).propose(Budget(4)))


def test_shares_that_do_not_hold_lose_confidence():
    drafter = RecycledDrafter(floor=0.0)
    stream = drafter.open(as_tokens([1, 2]))
    stream.observe(told(Draft.empty(), [], 2, [after(3, share=0.9)]))  # 2 -> 3 it says, but 2 comes
    first = stream.propose(Budget(1)).confidence[0]
    for _ in range(50):
        stream.observe(told(Draft.empty(), [], 2, [after(3, share=0.9)]))
    assert stream.propose(Budget(1)).confidence[0] < first / 3


def test_rows_without_logits_teach_nothing_and_do_no_harm():
    class Recorded(Rows):
        def logits(self, row):
            raise UnsupportedModel("a record has none")

    assert likely_tokens(Recorded([after(3)]), 1, 4) is None
    drafter = RecycledDrafter()
    stream = drafter.open(as_tokens([1, 2]))
    verdict = Verdict(np.empty(0, dtype=np.int32), 3)
    stream.observe(Feedback(Draft.empty(), verdict, as_tokens([3]), Recorded([after(3)])))
    stream.observe(Feedback(Draft.empty(), verdict, as_tokens([3]), None))
    assert not len(stream.propose(Budget(8)))


def test_top_by_hand_equals_a_sort():
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.ones(VOCAB_SIZE), 4)
    top = likely_tokens(Rows(shares), 4, 5)
    assert top.tokens.tolist() == np.argsort(-shares, axis=1)[:, :5].tolist()
    assert np.exp(top.logprobs) == pytest.approx(-np.sort(-shares, axis=1)[:, :5], rel=1e-5)
    assert likely_tokens(Rows(shares), 4, 50).tokens.shape == (4, VOCAB_SIZE)


def test_a_models_rows_name_their_likeliest_tokens_alone_and_in_a_batch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from draftwood.targets.transformers.target import TransformersTarget
    from draftwood.testing import tiny_model

    torch.set_num_threads(1)
    target = TransformersTarget(tiny_model("llama"))
    prompt, draft = as_tokens([3, 10, 31]), Draft.tree([4, 5, 6], [-1, 0, -1])
    rows = target.open(prompt).score(draft)
    batch = target.open_batch(2)
    seats = [batch.open(prompt), batch.open(as_tokens([7, 8]))]
    (shared, _) = batch.score(seats, [draft, Draft.empty()])
    logits = np.stack([rows.logits(row) for row in range(4)]).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for each in (rows, shared):
        top = each.top(5)
        assert top.tokens.tolist() == np.argsort(-expected, axis=1)[:, :5].tolist()
        assert top.logprobs == pytest.approx(-np.sort(-expected, axis=1)[:, :5], abs=1e-3)
    batch.close()


def test_classes_cover_all_shares_in_order():
    places = [share_class(share) for share in (1e-9, 0.01, 0.3, 0.5, 0.7, 0.99, 0.9999, 1.0)]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[3] == 16
    assert places[-1] == 32


def test_text_is_that_of_the_target_and_steps_are_saved_on_a_second_text():
    row = hash_model(VOCAB_SIZE, order=2)
    target, drafter = ToyTarget(row), RecycledDrafter()
    expected = greedy_text(row, [1, 2, 3], 40)
    stats = []
    for _ in range(2):
        steps = list(decode(target, drafter, Greedy(), [1, 2, 3], stop=Stop(40)))
        assert [token for step in steps for token in step.tokens.tolist()] == expected
        stats.append(Stats.of(steps))
    assert stats[1].steps < 40 / 3


def test_threads_draft_while_others_teach():
    row, drafter, failed = hash_model(VOCAB_SIZE, order=2), RecycledDrafter(slots=64), []

    def work(start):
        try:
            for _ in range(5):
                prompt = [start, 2, 3]
                steps = decode(ToyTarget(row), drafter, Greedy(), prompt, stop=Stop(20))
                text = [token for step in steps for token in step.tokens.tolist()]
                assert text == greedy_text(row, prompt, 20)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_spec_names_it():
    assert make_drafter("recycled:nodes=8,k=4,slots=1024").nbytes == 1024 * (16 + 32)
