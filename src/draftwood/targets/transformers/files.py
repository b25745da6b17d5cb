"""Checks that a model's files are complete before anything is loaded.

transformers says of a weight file that was cut or never fetched what the parser below it stumbled
over; here each way to be wrong is one sentence.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from draftwood.errors import BrokenModel, MissingExtra, ModelNotFound

_POINTER = b"version https://git-lfs"
_LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library


def check_files(folder: Path, name: str) -> None:
    """Look at a model folder; name: as errors call it.

    Raises:
        ModelNotFound: where there is no configuration.
        BrokenModel: for a file that is a Git LFS pointer, empty or cut.
        MissingExtra: for a model with an adapter, where what applies it is not installed.
    """
    if not (folder / "config.json").is_file():
        raise ModelNotFound(_without_config(folder, name))
    if (folder / "adapter_config.json").is_file() and find_spec("peft") is None:
        raise MissingExtra(
            f"{name!r} holds an adapter beside its model, and peft, which applies it, is not "
            "installed; install peft, or use the merged model that merge_and_unload() gives"
        )
    for file in sorted(folder.iterdir()):
        if not file.is_file():
            continue
        if file.suffix in (".safetensors", ".bin", ".json", ".model", ".gguf"):
            _refuse_pointer(file, name)
        if file.name == "generation_config.json":
            _refuse_no_object(file, name)
        if file.suffix == ".safetensors":
            _refuse_cut(file, name)


def check_gguf(file: Path, name: str) -> None:
    """Look at a .gguf file.

    Raises:
        BrokenModel: for a file that is a Git LFS pointer or does not begin as GGUF does.
    """
    _refuse_pointer(file, name)
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise BrokenModel(f"{name!r} does not begin as a GGUF file does; fetch it again")


def _without_config(folder: Path, name: str) -> str:
    """What is wrong with a folder that holds no config.json."""
    if (folder / "adapter_config.json").is_file():
        try:
            base = json.loads((folder / "adapter_config.json").read_text())[
                "base_model_name_or_path"
            ]
        except (OSError, ValueError, LookupError, TypeError):
            base = None
        whose = "names no base model" if base is None else f"is made for {base!r}"
        return (
            f"{name!r} holds an adapter (PEFT) without its model and {whose}; merge the two with "
            "merge_and_unload() and save the result, or load the base model"
        )
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if files:
        return f"{name!r} is a folder of GGUF files; give one of them, such as {name}/{files[0]}"
    return f"{name!r} holds no config.json; give the folder that `save_pretrained` wrote"


def _refuse_pointer(file: Path, name: str) -> None:
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise BrokenModel(
                f"{file.name} of {name!r} is a Git LFS pointer instead of the file itself; "
                "run git lfs pull in that folder"
            )


def _refuse_no_object(file: Path, name: str) -> None:
    """Of a file that is not JSON, transformers would go on as if it were not there."""
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BrokenModel(
            f"{file.name} of {name!r} is no JSON object; fetch it again, or remove it to generate "
            "without it"
        )


def _refuse_cut(file: Path, name: str) -> None:
    """Compare a safetensors file's size with what its header says."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            if size < 8 or length > min(size - 8, _LARGEST_HEADER):
                raise ValueError
            header = json.loads(opened.read(length))
            header.pop("__metadata__", None)
            end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        except (ValueError, LookupError, TypeError, AttributeError):
            end = None
    if end is None:
        raise BrokenModel(
            f"{file.name} of {name!r} ({size} bytes) has no whole safetensors header; "
            "it was cut: fetch it again"
        )
    if 8 + length + end != size:
        raise BrokenModel(
            f"{file.name} of {name!r} has {size} bytes and its header promises {8 + length + end}; "
            "it was cut or replaced: fetch it again"
        )
