"""Everything that is opened is closed, and everybody who wraps something passes that on."""

import numpy as np
import pytest

from draftwood.batch import Request, decode_batch
from draftwood.budget.calibration import Calibrated
from draftwood.decode import decode
from draftwood.draft import as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.mix.ouroboros import Ouroboros
from draftwood.drafters.none import NoDraft
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.seeded import NoiseLookahead
from draftwood.drafters.small.grow import MergedDrafter, ModelDrafter
from draftwood.drafters.small.overlapped import Overlapped
from draftwood.drafters.small.sampled import MultiCandidate
from draftwood.drafters.small.shapes import Shape
from draftwood.errors import HistoryError
from draftwood.index.recall import Recall
from draftwood.targets.replay import ReplayTarget
from draftwood.testing import ToyDraftModel, ToyTarget, hash_model, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise

ROW = hash_model(seed=5)
PROMPT = as_tokens([1, 2, 3])


class Watched:
    """A drafter that counts what is opened and closed."""

    def __init__(self):
        self.open_streams = self.closed = 0
        self.predictions = []

    def open(self, prompt, *, namespace="", prediction=()):
        self.open_streams += 1
        self.predictions.append([each.tolist() for each in prediction])
        stream = random_trees(12, seed=1).open(prompt)

        def close():
            self.open_streams -= 1

        stream.close = close
        return stream

    def close(self):
        self.closed += 1


WRAPPERS = {
    "calibrated": Calibrated,
    "blend": lambda drafter: Blend([drafter, NoDraft()]),
    "hybrid, first": lambda drafter: Hybrid(drafter, NoDraft()),
    "hybrid, other": lambda drafter: Hybrid(NoDraft(), drafter),
    "ouroboros": Ouroboros,
    "nested": lambda drafter: Calibrated(Hybrid(Blend([NoDraft(), drafter]), NoDraft())),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapper_closes_what_it_wraps_and_passes_predictions_on(wrap):
    inner = Watched()
    drafter = wrap(inner)
    stop = Stop(5)
    list(decode(ToyTarget(ROW), drafter, Greedy(), PROMPT, stop=stop, prediction=[PROMPT]))
    list(decode_batch(ToyTarget(ROW), drafter, [Request(PROMPT, Greedy(), Stop(5))]))
    asked = Request(PROMPT, Greedy(), Stop(5), prediction=[as_tokens([7]), PROMPT])
    list(decode_batch(ToyTarget(ROW), drafter, [asked]))
    assert inner.predictions == [[[1, 2, 3]], [], [[7], [1, 2, 3]]]
    assert inner.open_streams == 0
    assert inner.closed == 0
    drafter.close()
    assert inner.closed == 1


def test_drafts_that_look_up_the_noise_pass_predictions_on():
    inner = Watched()
    drafter = NoiseLookahead(inner).under(GumbelNoise(1))
    list(decode(ToyTarget(ROW), drafter, Greedy(), PROMPT, stop=Stop(3), prediction=[PROMPT]))
    assert inner.predictions == [[[1, 2, 3]]]
    assert inner.open_streams == 0


def test_a_drafter_without_the_keyword_serves_whoever_has_no_prediction():
    class Old:
        def open(self, prompt, *, namespace=""):
            return NoDraft()

    (step,) = decode(ToyTarget(ROW), Old(), Greedy(), PROMPT, stop=Stop(1))
    assert step.finish == "length"


SMALL = ToyDraftModel(ROW)


@pytest.mark.parametrize(
    "drafter",
    [
        *map(make_drafter, ("recall", "suffix", "lookup", "trigram", "recycled", "none")),
        *map(make_drafter, ("blend", "hybrid")),
        ModelDrafter(SMALL, Shape.chain()),
        ModelDrafter(SMALL, Shape.best_first()),
        ModelDrafter(SMALL, Shape.expansion()),
        MergedDrafter(
            [ModelDrafter(SMALL, Shape.expansion()), ModelDrafter(SMALL, Shape.expansion())]
        ),
        ModelDrafter(SMALL, Shape.gsd()),
        MultiCandidate(SMALL),
        Overlapped(SMALL),
        Ouroboros(ModelDrafter(SMALL, Shape.chain())),
        NoiseLookahead(PromptLookup()).under(GumbelNoise(1)),
        random_trees(12),
    ],
    ids=lambda drafter: type(drafter).__name__,
)
def test_every_drafter_takes_a_prediction_and_can_be_closed_twice(drafter):
    drafter.open(PROMPT, namespace="a", prediction=[as_tokens([4, 5])]).close()
    drafter.close()
    drafter.close()


@pytest.mark.parametrize("target", [ToyTarget(ROW), ReplayTarget([1])], ids=["toy", "replay"])
def test_every_target_can_be_closed(target):
    target.open(PROMPT).close()
    target.close()


@pytest.mark.parametrize("wrap", [lambda drafter: drafter, *WRAPPERS.values()])
def test_a_closed_drafter_leaves_its_file_to_the_next(tmp_path, wrap):
    path = str(tmp_path / "kept")
    for _ in range(2):
        drafter = wrap(RecallDrafter(path=path, max_tokens=4096))
        drafter.open(PROMPT).close()
        drafter.close()
    assert Recall.open(path).writable


def test_a_drafter_leaves_a_history_open_that_it_was_given():
    recall = Recall(1024)
    RecallDrafter(recall=recall).close()
    assert recall.add([1, 2, 3]) > 0


def test_a_closed_history_says_so(tmp_path):
    recall = Recall.open(tmp_path / "kept", max_tokens=4096)
    recall.close()
    recall.close()
    for use in (lambda: recall.add(np.array([1])), lambda: recall.nbytes, recall.flush):
        with pytest.raises(HistoryError, match="this history is closed; open it again"):
            use()
