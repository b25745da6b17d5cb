"""What a user can get wrong: one class a way; messages name value, limit and remedy."""


class DraftwoodError(Exception):
    """Base of all errors that a user can cause and mend."""


class InvalidTokens(DraftwoodError, ValueError):
    """Token ids that are not integers, negative where that is not allowed, or too large."""


class InvalidDraft(DraftwoodError, ValueError):
    """Arrays that do not form a token tree with parents before children."""


class InvalidSpec(DraftwoodError, ValueError):
    """A drafter spec with an unknown name, an unknown option or a value that does not parse."""


class InvalidOption(DraftwoodError, ValueError):
    """An argument outside its range."""


class ModelNotFound(DraftwoodError, FileNotFoundError):
    """No model at the given path, and none that can be reached under that name."""


class UnsupportedModel(DraftwoodError):
    """A model whose attention or cache cannot be verified exactly."""


class ContextTooLong(DraftwoodError, ValueError):
    """Prompt (and what is to be generated) beyond the model's context length."""


class TraceError(DraftwoodError, ValueError):
    """A recorded trace that cannot be read."""


class MissingExtra(DraftwoodError, ImportError):
    """A feature whose optional dependency is not installed."""
