"""Grammars for one tokenizer, compiled once each."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from draftwood.errors import InvalidOption, MissingExtra
from draftwood.fork import fork_lock
from draftwood.grammar.rule import GrammarRule

_LONGEST: Final = 64 * 1024
"""Characters of a schema or expression, at most."""

_SPACES: Final = 16
"""Blanks and line ends in a row between parts of JSON, at most: enough to indent, and an end."""


class Grammars:
    """Compiles grammars for one model. Thread-safe.

    tokenizer: of transformers. vocab_size: entries of the target's rows. end_tokens: ids that may
    come where the grammar allows the text to end.

    Raises:
        MissingExtra: where xgrammar is not installed.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, end_tokens: Collection[int]) -> None:
        try:
            import xgrammar
        except ImportError:
            raise MissingExtra("grammars need xgrammar; pip install 'draftwood[grammar]'") from None
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocab_size, stop_token_ids=sorted(end_tokens)
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_limit_bytes=1 << 28)
        self._lock = fork_lock()

    def json(self, prompt_tokens: int) -> GrammarRule:
        """Any JSON object. prompt_tokens: of the text, whose answer begins after them."""
        return self.json_schema({"type": "object"}, prompt_tokens)

    def json_schema(self, schema: Any, prompt_tokens: int) -> GrammarRule:
        """JSON that a schema describes.

        Raises:
            InvalidOption: for a schema that XGrammar cannot follow.
        """
        return self._rule("schema", json.dumps(schema), prompt_tokens)

    def regex(self, expression: str, prompt_tokens: int) -> GrammarRule:
        """A text that a regular expression matches as a whole.

        Raises:
            InvalidOption: for an expression that XGrammar cannot follow.
        """
        return self._rule("regular expression", expression, prompt_tokens)

    def _rule(self, kind: str, text: str, prompt_tokens: int) -> GrammarRule:
        if len(text) > _LONGEST:
            raise InvalidOption(
                f"the {kind} has {len(text)} characters, more than {_LONGEST}; make it smaller"
            )
        compiler = self._compiler
        try:
            with self._lock:
                compiled = (
                    compiler.compile_json_schema(text, max_whitespace_cnt=_SPACES)
                    if kind == "schema"
                    else compiler.compile_regex(text)
                )
        except Exception as error:  # XGrammar raises what its parser chose
            first = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise InvalidOption(
                f"the {kind} cannot be followed ({first[0][:200]}); change it"
            ) from None
        return GrammarRule(compiled, prompt_tokens)
