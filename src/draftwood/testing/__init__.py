"""For tests of this package and of what is built on it: exact laws, toys, strategies.

Importing this module loads neither Hypothesis nor torch; what needs them imports them.

* `law_of` runs a program once for every outcome of its chance calls and returns the exact law of
  its result: how a lossless verifier is proved, not sampled.
* `ToyTarget` is a language model given as a function from a prefix to a row.
* `DraftFrom` is a drafter given as a function; `random_trees`, `oracle` and `raising` make some.
* `sampled_draft` draws a draft from a model, as rules that need proposal rows want it.
* `tokens`, `drafts`, `row_tables` are Hypothesis strategies.
* `tiny_model` is a seeded random model of a Hugging Face family; `save_tiny_model` a model folder.
"""

from __future__ import annotations

from draftwood.testing.drafters import DraftFrom, oracle, raising, random_trees, sampled_draft
from draftwood.testing.exact import Branch, law_of
from draftwood.testing.models import CHAT_TEMPLATE, FAMILIES, save_tiny_model, tiny_model
from draftwood.testing.strategies import drafts, merge_doubles, row_tables, tokens
from draftwood.testing.toys import (
    WORDS,
    ByteTokenizer,
    Row,
    ToyCursor,
    ToyDraftModel,
    ToyDraftSeat,
    ToyRows,
    ToyTarget,
    greedy_text,
    hash_model,
)

__all__ = [
    "CHAT_TEMPLATE",
    "FAMILIES",
    "WORDS",
    "Branch",
    "ByteTokenizer",
    "DraftFrom",
    "Row",
    "ToyCursor",
    "ToyDraftModel",
    "ToyDraftSeat",
    "ToyRows",
    "ToyTarget",
    "drafts",
    "greedy_text",
    "hash_model",
    "law_of",
    "merge_doubles",
    "oracle",
    "raising",
    "random_trees",
    "row_tables",
    "sampled_draft",
    "save_tiny_model",
    "tiny_model",
    "tokens",
]
