"""Draftwood within llama-cpp-python: `Llama(..., draft_model=DraftModel())`.

    from draftwood.llama_cpp import DraftModel
    llm = Llama("model.gguf", draft_model=DraftModel())

GGUF models in Draftwood's own loop, with trees, are `draftwood.load(path, engine="llama.cpp")`
(docs/llama-cpp.md).
"""

from draftwood.llama_cpp.draft_model import LlamaCppDraftModel

DraftModel = LlamaCppDraftModel

__all__ = ["DraftModel", "LlamaCppDraftModel"]
