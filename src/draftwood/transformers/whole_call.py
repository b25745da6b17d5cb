"""`model.generate` with all its arguments, as a model's folder is called."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from draftwood.transformers.custom_generate import generate


def generate_with(model: Any, inputs: Any = None, **arguments: Any) -> Any:
    """`model.generate` with all its arguments and those of `generate`, the streamer included.

    What a model folder's `custom_generate/generate.py` calls. Stop strings need the `tokenizer`.
    """
    own = {
        name: arguments.pop(name)
        for name in ("drafter", "cost", "nodes", "namespace", "prediction", "draft_tokenizer")
        if name in arguments
    }
    strings, tokenizer = arguments.pop("stop_strings", None), arguments.get("tokenizer")
    own.setdefault("draft_tokenizer", tokenizer)
    config = arguments.get("generation_config")
    if strings is None and config is not None and config.stop_strings:
        strings, arguments["generation_config"] = config.stop_strings, _without_strings(config)
    if strings is not None:
        arguments["stopping_criteria"] = _with_strings(
            strings, tokenizer, arguments.get("stopping_criteria")
        )
    loop: Callable[..., Any] = partial(generate, streamer=arguments.get("streamer"), **own)
    return type(model).generate(model, inputs, custom_generate=loop, **arguments)


def _with_strings(strings: Any, tokenizer: Any, criteria: Any) -> Any:
    from transformers import StoppingCriteriaList, StopStringCriteria

    return StoppingCriteriaList([*(criteria or ()), StopStringCriteria(tokenizer, strings)])


def _without_strings(config: Any) -> Any:
    own = copy.deepcopy(config)
    own.stop_strings = None
    return own
