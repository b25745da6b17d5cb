"""From the name of a transformers model to the model and its tokenizer.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draftwood.errors import InvalidOption, MissingExtra, ModelNotFound, UnsupportedModel


def read_model(
    model: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    tokenizer_needed: bool = True,
) -> tuple[Any, Any]:
    """A causal language model in evaluation mode, and its tokenizer.

    The options are those of `draftwood.load`. tokenizer_needed: where it is not, None stands for
    the tokenizer that is not there.

    Raises:
        MissingExtra: where torch or transformers is not installed.
        ModelNotFound: for a path that holds no model, or a name that cannot be reached.
        UnsupportedModel: for files of another kind of model.
        InvalidOption: for a device or dtype that is not there.
    """
    torch, transformers = _backend()
    place = _device(torch, device)
    number = _dtype(torch, dtype, place)
    name = _name_of(model)
    try:
        tokenizer = _tokenizer(transformers, name, needed=tokenizer_needed)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            dtype=number,
            **({} if attention is None else {"attn_implementation": attention}),
        )
    except OSError as error:
        raise ModelNotFound(
            f"no model {name!r} can be loaded ({_first_line(error)}); give a folder with config, "
            "tokenizer and weights, or a Hub id that is cached or can be reached"
        ) from error
    except ValueError as error:
        raise UnsupportedModel(
            f"{name!r} does not load as a causal language model with its tokenizer "
            f"({_first_line(error)}); use a decoder-only model"
        ) from error
    return network.to(place).eval(), tokenizer


def _backend() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra(
            f"running a model needs {error.name or 'torch'}, which is not installed; "
            "run: pip install 'draftwood[hf]'"
        ) from error
    return torch, transformers


def _tokenizer(transformers: Any, name: str, *, needed: bool) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError):
        if needed:
            raise
        return None


def _name_of(model: str | Path) -> str:
    """The folder or Hub id, once it is sure that it is no mistyped path."""
    name = str(model)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFound(
                f"{name!r} holds no config.json; give the folder that `save_pretrained` wrote"
            )
        return str(path)
    looks_like_path = isinstance(model, Path) or name.startswith((".", "/", "~"))
    if looks_like_path or path.exists() or not name or name.count("/") > 1:
        raise ModelNotFound(f"{name!r} is no folder; give a model folder or a Hub id (owner/name)")
    return name


def _device(torch: Any, device: str | None) -> Any:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InvalidOption(f"no device is named {device!r}; use cpu, cuda or cuda:1") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InvalidOption(
            f"device {device!r} is not there, {torch.cuda.device_count()} CUDA devices are; use cpu"
        )
    return place


def _dtype(torch: Any, dtype: str | None, place: Any) -> Any:
    if dtype is None:
        dtype = "float32" if place.type == "cpu" else "auto"
    if dtype == "auto":
        return dtype
    if dtype not in ("float32", "bfloat16", "float16", "float64"):
        raise InvalidOption(f"dtype {dtype!r} is none; use float32, bfloat16, float16 or auto")
    return getattr(torch, dtype)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
