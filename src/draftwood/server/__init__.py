"""An OpenAI-compatible server over one `LanguageModel`: `draftwood serve`."""
