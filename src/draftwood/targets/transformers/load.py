"""From the name of a transformers model to the model and its tokenizer.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Unpack

from draftwood.bundled import bundled
from draftwood.errors import (
    BrokenModel,
    DraftwoodError,
    InvalidOption,
    MissingExtra,
    ModelNotFound,
    TokenizerMissing,
    UnsupportedModel,
)
from draftwood.signatures import shows
from draftwood.targets.transformers.files import check_files, check_gguf
from draftwood.targets.transformers.load_options import LoadOptions, complete, shown_options

_BY_NAME: Final = (
    "device",
    "dtype",
    "attention",
    "revision",
    "device_map",
    "quantization_config",
)
"""Options for models that are loaded by name, and not for model objects."""


@shows(shown_options())
def read_model(
    model: Any, *, tokenizer_needed: bool = True, **options: Unpack[LoadOptions]
) -> tuple[Any, Any]:
    """A causal language model in evaluation mode, and its tokenizer.

    model: a folder, a Hub id (`owner/name`), a `.gguf` file on disk or of a Hub repository
    (`owner/name/file.gguf`), the name of a bundled model (`demo`), or a model object, which is
    returned as it is. tokenizer_needed: where it is not, None stands for a tokenizer that is not
    there. options: as in `draftwood.load`.

    Raises:
        MissingExtra: where torch, transformers or what the model needs beside them is missing.
        ModelNotFound: for a path that holds no model, or a name that cannot be reached.
        TokenizerMissing: for a tokenizer that is missing or has no vocabulary.
        BrokenModel: for weights that are pointers, cut, missing, or of other shapes.
        UnsupportedModel: for files of another kind of model, or with code that is not trusted.
        InvalidOption: for a device or dtype that is not there, or options that exclude each other.
    """
    torch, transformers = _backend()
    chosen = complete(options)
    tokenizer, packed, dtype = chosen["tokenizer"], chosen["packed"], chosen["dtype"]
    device, device_map = chosen["device"], chosen["device_map"]
    code = {"trust_remote_code": chosen["trust_remote_code"]}
    passed_on = {
        key: value
        for key, value in (
            ("attn_implementation", chosen["attention"]),
            ("quantization_config", chosen["quantization_config"]),
        )
        if value is not None
    }
    if isinstance(model, torch.nn.Module):
        given = [name for name in _BY_NAME if chosen[name] is not None]
        if given:
            raise InvalidOption(
                f"{given[0]} is for a model that is loaded by name, and {type(model).__name__} is "
                "one already; set it where that is loaded"
            )
        if tokenizer is None and tokenizer_needed:
            raise InvalidOption(
                f"{type(model).__name__} comes without its tokenizer; pass tokenizer=..."
            )
        words = _tokenizer(transformers, tokenizer, code, needed=tokenizer_needed)
        if packed:
            _pack(model)
        return model, words
    if not isinstance(model, (str, Path)):
        raise InvalidOption(
            f"the model is a {type(model).__name__}; give a folder, a Hub id, a .gguf file or a "
            "model of the transformers library"
        )
    if device is not None and device_map is not None:
        raise InvalidOption(f"device {device!r} and a device_map are given; give one of the two")
    place = _device(torch, device)
    number = _dtype(torch, dtype, place)
    source = _source_of(model)
    revision = chosen["revision"]
    where = source.options | code | ({} if revision is None else {"revision": revision})
    with _explained(source):
        if source.gguf is not None:
            _require("gguf", f"reading {source.gguf}", "gguf")
            _require("accelerate", f"reading {source.gguf}", "gguf")
        _refuse_wrong_types(transformers, source)
        config = transformers.AutoConfig.from_pretrained(source.name, **where)
        _refuse_encoder(config, source.shown)
        if tokenizer is None:
            words = _tokenizer(transformers, source.name, where, needed=tokenizer_needed)
        else:
            words = _tokenizer(transformers, tokenizer, code, needed=tokenizer_needed)
        quantized = chosen["quantization_config"] or getattr(config, "quantization_config", None)
        if quantized is not None and source.gguf is None:
            device_map = {"": str(place)} if device_map is None else device_map
            number = "auto" if dtype is None else number
        if device_map is not None:
            _require("accelerate", "a device_map or a quantized model", "quantized")
        network, report = transformers.AutoModelForCausalLM.from_pretrained(
            source.name,
            dtype=number,
            output_loading_info=True,
            **where,
            **({} if device_map is None else {"device_map": device_map}),
            **passed_on,
        )
    _require_all_weights(source.shown, report)
    if source.gguf is not None and all(p.is_floating_point() for p in network.parameters()):
        del network.config.quantization_config  # the weights are ordinary ones by now
    network = (network if device_map is not None else network.to(place)).eval()
    if packed is not False and not _passes_natively(network):
        _pack(network)
    return network, words


def _passes_natively(model: Any) -> bool:
    from draftwood.targets.transformers.lean import passes_natively

    return passes_natively(model)


def _pack(model: Any) -> None:
    from draftwood.targets.transformers.packed import pack_linears

    pack_linears(model)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a model lies. shown: as errors call it. name: folder or Hub id. gguf: file in it."""

    shown: str
    name: str
    gguf: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What `from_pretrained` has to know beside the name."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def _source_of(model: str | Path) -> _Source:
    """The folder or Hub id, once it is sure that it is no mistyped path and its files are whole."""
    name = bundled(str(model))
    path = Path(name).expanduser()
    if path.is_dir():
        check_files(path, name)
        return _Source(name, str(path))
    gguf = path.suffix == ".gguf"
    if gguf and path.is_file():
        check_gguf(path, name)
        return _Source(name, str(path.parent), path.name)
    looks_like_path = isinstance(model, Path) or name.startswith((".", "/", "~"))
    if gguf and not looks_like_path and name.count("/") == 2:
        owner_and_name, _, file = name.rpartition("/")
        return _Source(name, owner_and_name, file)
    if looks_like_path or path.exists() or not name or name.count("/") > 1:
        raise ModelNotFound(
            f"{name!r} is no folder; give a model folder or a Hub id (owner/name), or a .gguf file"
        )
    return _Source(name, name)


@contextmanager
def _explained(source: _Source) -> Iterator[None]:
    """Whatever transformers raises while it reads a model, in one sentence of ours."""
    name = source.shown
    try:
        yield
    except DraftwoodError:
        raise
    except ImportError as error:
        raise MissingExtra(
            f"{name!r} needs a package that is not installed ({_first_line(error)}); install it, "
            "or use a copy of the model without it, such as one that is not quantized"
        ) from error
    except OSError as error:
        raise ModelNotFound(
            f"no model {name!r} can be loaded ({_first_line(error)}); give a folder with config, "
            "tokenizer and weights, or a Hub id that is cached or can be reached"
        ) from error
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise UnsupportedModel(
                f"{name!r} comes with Python code of its own, which runs only if you trust it; "
                "read it, then pass trust_remote_code=True"
            ) from error
        if source.gguf is not None and "not supported" not in str(error):
            raise _unreadable(name, error) from error
        raise UnsupportedModel(
            f"{name!r} does not load as a causal language model with its tokenizer "
            f"({_first_line(error)}); use a decoder-only model"
        ) from error
    except MemoryError as error:
        raise InvalidOption(f"{name!r} does not fit into memory; try dtype bfloat16") from error
    except Exception as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> BrokenModel:
    return BrokenModel(
        f"the files of {name!r} cannot be read ({type(error).__name__}: {_first_line(error)}); "
        "fetch them again"
    )


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


def _require(package: str, purpose: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingExtra(
            f"{purpose} needs {package}, which is not installed; "
            f"run: pip install 'draftwood[{extra}]'"
        )


def _refuse_encoder(config: Any, name: str) -> None:
    from draftwood.targets.transformers.layers import refuse_encoder

    refuse_encoder(config, repr(name))


def _refuse_wrong_types(transformers: Any, source: _Source) -> None:
    """Name a key of a folder's generation config at whose value transformers stumbles."""
    file = Path(source.name) / "generation_config.json"
    if source.gguf is not None or not file.is_file():
        return
    for key, value in json.loads(file.read_bytes()).items():
        try:
            transformers.GenerationConfig(**{key: value})
        except (TypeError, AttributeError) as error:
            raise BrokenModel(
                f"generation_config.json of {source.shown!r} says {key} = {value!r}, which is of a "
                f"wrong type ({_first_line(error)}); correct or remove it"
            ) from error
        except Exception:  # what goes together is looked at later
            continue


def _require_all_weights(name: str, report: dict[str, Any]) -> None:
    """Refuse a model some of whose weights transformers made up."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise BrokenModel(
            f"{name!r} lacks {len(missing)} of its weights, such as {missing[0]}; they would be "
            "random numbers: fetch all files of the model, or another one"
        )


def _tokenizer(
    transformers: Any, tokenizer: Any, options: dict[str, Any], *, needed: bool
) -> Any | None:
    """A tokenizer by its place, or the object itself; None where it is not there nor needed."""
    if not isinstance(tokenizer, (str, Path)):
        return tokenizer
    name = str(tokenizer)
    try:
        words = transformers.AutoTokenizer.from_pretrained(name, **options)
        reason = _unfit(words)
        if reason is None:
            return words
    except Exception as error:
        if "trust_remote_code" in str(error) and needed:
            raise
        reason = _first_line(error)
    if not needed:
        return None
    raise TokenizerMissing(
        f"{name!r} holds no tokenizer that can be read ({reason}); give a folder with config, "
        "tokenizer and weights, or pass tokenizer=..."
    )


def _unfit(tokenizer: Any) -> str | None:
    """What is wrong with a tokenizer that was read; None where it encodes.

    Whatever it raises tells that, too.
    """
    if not len(tokenizer):
        return "its vocabulary is empty"
    largest = max(tokenizer.get_vocab().values())
    if largest >= 2**31:
        return f"it has a token id of {largest}, beyond 2^31 - 1"
    tokenizer("a", add_special_tokens=False)
    return None


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
    line = str(error).strip().partition("\n")[0].rstrip(".:")
    return line if len(line) <= 200 else line[:200] + "..."
