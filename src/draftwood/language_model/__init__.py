"""A model, its tokenizer and a drafter together: text from prompts, one or many."""

from draftwood.language_model.model import LanguageModel

__all__ = ["LanguageModel"]
