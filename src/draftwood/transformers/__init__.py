"""Draftwood within transformers: `model.generate(**inputs, custom_generate=generate)`.

    import draftwood.transformers
    model.generate(**inputs, custom_generate=draftwood.transformers.generate, drafter="recall")

`generate` is the decoding loop that transformers calls once it has prepared a call. The same for a
model's folder on disk or on the Hub is written by `save_custom_generate`, and `DraftCandidates`
drafts for a loop of your own (docs/transformers.md).
"""

from draftwood.transformers.candidates import DraftCandidates
from draftwood.transformers.custom_generate import generate
from draftwood.transformers.kept import close_drafters, statistics
from draftwood.transformers.model_folder import save_custom_generate
from draftwood.transformers.whole_call import generate_with

__all__ = [
    "DraftCandidates",
    "close_drafters",
    "generate",
    "generate_with",
    "save_custom_generate",
    "statistics",
]
