"""The engines that run a model in our own loop, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from draftwood.errors import InvalidOption, MissingExtra, ModelNotFound, TokenizerMissing
from draftwood.targets.engine_model import LoadedTarget
from draftwood.targets.transformers.load import read_model
from draftwood.targets.transformers.load_options import DEFAULTS, LoadOptions, complete


def read_target(model: Any, engine: str | None, options: LoadOptions) -> tuple[LoadedTarget, Any]:
    """A target and its tokenizer.

    model: what the engine reads. engine: a name; None: transformers. options: of `draftwood.load`;
    engines other than transformers take `tokenizer` only.

    Raises:
        InvalidOption: for an engine that there is not, or an option that it does not take.
        DraftwoodError: what the engine's target raises for a model that it cannot run.
    """
    name = engine or "transformers"
    if name not in _READERS:
        raise InvalidOption(f"no engine is named {name!r}; choose from {', '.join(_READERS)}")
    return _READERS[name](model, options)


def _transformers(model: Any, options: LoadOptions) -> tuple[LoadedTarget, Any]:
    network, tokenizer = read_model(model, **options)
    from draftwood.targets.transformers.target import TransformersTarget

    return TransformersTarget(network), tokenizer


def _llama_cpp(model: Any, options: LoadOptions) -> tuple[LoadedTarget, Any]:
    given = _only_tokenizer("llama.cpp", options)
    if not isinstance(model, (str, Path)) or not Path(model).expanduser().is_file():
        raise ModelNotFound(f"{str(model)!r} is no file; llama.cpp reads a .gguf file on disk")
    path = Path(model).expanduser()
    from draftwood.targets.llama_cpp.target import LlamaCppTarget
    from draftwood.targets.transformers.gguf_tokenizer import gguf_tokenizer

    return LlamaCppTarget(path), gguf_tokenizer(path) if given is None else _tokenizer(given)


def _onnx(model: Any, options: LoadOptions) -> tuple[LoadedTarget, Any]:
    given = _only_tokenizer("onnx", options)
    if not isinstance(model, (str, Path)) or not Path(model).expanduser().is_dir():
        raise ModelNotFound(
            f"{str(model)!r} is no folder; give what onnxruntime-genai's model builder wrote"
        )
    path = Path(model).expanduser()
    from draftwood.targets.onnx.target import OnnxTarget

    return OnnxTarget(path), _tokenizer(path if given is None else given)


_READERS: Final[Mapping[str, Callable[[Any, LoadOptions], tuple[LoadedTarget, Any]]]] = {
    "transformers": _transformers,
    "llama.cpp": _llama_cpp,
    "onnx": _onnx,
}


def _only_tokenizer(engine: str, options: LoadOptions) -> Any:
    """The tokenizer of the options, or None."""
    chosen = complete(options)
    for name, value in chosen.items():
        if name != "tokenizer" and value != DEFAULTS[name]:  # type: ignore[literal-required]
            raise InvalidOption(
                f"{name} is {value!r}, and the engine {engine!r} does not take it; leave it out"
            )
    return chosen["tokenizer"]


def _tokenizer(tokenizer: Any) -> Any:
    """A tokenizer by its place, or the object itself."""
    if not isinstance(tokenizer, (str, Path)):
        return tokenizer
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("a tokenizer needs transformers; pip install 'draftwood[hf]'") from None
    try:
        return AutoTokenizer.from_pretrained(str(tokenizer))
    except Exception as error:  # whatever its readers raise
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise TokenizerMissing(
            f"{str(tokenizer)!r} holds no tokenizer that can be read ({reason}); pass tokenizer=..."
        ) from error
