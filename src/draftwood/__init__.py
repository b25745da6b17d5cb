"""Draftwood: the same text in fewer steps, from any language model, without training.

    import draftwood as dw
    llm = dw.load("path/or/hub-id")
    for piece in llm.stream("Rewrite this file ...", max_tokens=256):
        print(piece, end="", flush=True)
    print(llm.stats)

`load` brings a model and a drafter together; `LanguageModel` has what it can do and `Options` how.
Below it: `decode` is the loop; `Draft` is what a drafter proposes; `Drafter`, `Target` and
`Verifier` are what to implement to bring your own.
"""

from typing import TYPE_CHECKING

from draftwood.batch import Request, decode_batch
from draftwood.budget.calibration import calibrated
from draftwood.budget.cost import CurveCost, GeometricCost, LinearCost
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spending import Spending
from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, TokenIds, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.none import NoDraft
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.recycled import RecycledDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.errors import (
    BrokenModel,
    BrokenRecord,
    ContextTooLong,
    DraftwoodError,
    GenerationFailed,
    HistoryBusy,
    HistoryCorrupt,
    HistoryError,
    HistoryMalformed,
    HistoryReplaced,
    HistoryTooNew,
    HistoryTruncated,
    InvalidDraft,
    InvalidOption,
    InvalidSpec,
    InvalidTokens,
    LogUnreachable,
    MissingExtra,
    ModelNotFound,
    NotAHistory,
    PairMismatch,
    SourceError,
    TokenizerMismatch,
    TokenizerMissing,
    TraceError,
    UnknownSequence,
    UnsupportedEngine,
    UnsupportedModel,
    UnusableLogits,
)
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.recall import Recall
from draftwood.index.store import History
from draftwood.language_model import LanguageModel
from draftwood.language_model.generation import Generation, Logprobs
from draftwood.language_model.options import Options
from draftwood.language_model.streams import AsyncGenerationStream, GenerationStream
from draftwood.load import load
from draftwood.protocols import Cursor, Drafter, Feedback, Rows, Stream, Target, Verdict, Verifier
from draftwood.sampling.chance import Chance, SeededChance
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitBias, LogitsProcessor
from draftwood.sessions import Sessions, TokenRows
from draftwood.stats import Stats
from draftwood.step import Seconds, Step
from draftwood.targets.replay import ReplayTarget
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel
from draftwood.verify.match import SampleAndMatch

if TYPE_CHECKING:
    from draftwood.targets.transformers.target import TransformersTarget

    __version__: str

__all__ = [
    "ROOT",
    "AsyncGenerationStream",
    "Blend",
    "BrokenModel",
    "BrokenRecord",
    "Budget",
    "Chance",
    "ContextTooLong",
    "Cursor",
    "CurveCost",
    "Draft",
    "Drafter",
    "DraftwoodError",
    "Feedback",
    "Generation",
    "GenerationFailed",
    "GenerationStream",
    "GeometricCost",
    "Greedy",
    "GumbelNoise",
    "History",
    "HistoryBusy",
    "HistoryCorrupt",
    "HistoryError",
    "HistoryMalformed",
    "HistoryReplaced",
    "HistoryTooNew",
    "HistoryTruncated",
    "HistoryWriter",
    "Hybrid",
    "InvalidDraft",
    "InvalidOption",
    "InvalidSpec",
    "InvalidTokens",
    "LanguageModel",
    "LinearCost",
    "LogUnreachable",
    "LogitBias",
    "LogitsProcessor",
    "Logprobs",
    "MeasuredCost",
    "MissingExtra",
    "ModelNotFound",
    "NoDraft",
    "NotAHistory",
    "Options",
    "PairMismatch",
    "PromptLookup",
    "Recall",
    "RecallDrafter",
    "RecycledDrafter",
    "ReplayTarget",
    "Request",
    "Rows",
    "SampleAndMatch",
    "Sampling",
    "Seconds",
    "SeededChance",
    "Sessions",
    "SharedGumbel",
    "SourceError",
    "Spending",
    "Stats",
    "Step",
    "Stop",
    "Stream",
    "SuffixDrafter",
    "Target",
    "TokenIds",
    "TokenRows",
    "TokenizerMismatch",
    "TokenizerMissing",
    "TraceError",
    "TransformersTarget",
    "UnknownSequence",
    "UnsupportedEngine",
    "UnsupportedModel",
    "UnusableLogits",
    "Verdict",
    "Verifier",
    "__version__",
    "as_tokens",
    "calibrated",
    "decode",
    "decode_batch",
    "load",
    "make_drafter",
]


def __getattr__(name: str) -> object:
    """Found when asked for: `TransformersTarget` imports torch, the version is read from a file."""
    if name == "TransformersTarget":
        from draftwood.targets.transformers.target import TransformersTarget

        return TransformersTarget
    if name == "__version__":
        from importlib.metadata import version

        return version("draftwood")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
