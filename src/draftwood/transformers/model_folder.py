"""A model's folder that generates with drafts wherever transformers loads it."""

from __future__ import annotations

from pathlib import Path

from draftwood.drafters.catalog import make_priced_drafter
from draftwood.errors import ModelNotFound

_CODE = '''"""Generation with drafts: the same text in fewer passes (https://pypi.org/project/draftwood)."""

from draftwood.transformers import generate_with


def generate(model, inputs=None, **arguments):
    arguments.setdefault("drafter", {drafter!r})
    return generate_with(model, inputs, **arguments)
'''


def save_custom_generate(folder: str | Path, *, drafter: str = "recall") -> Path:
    """Write `custom_generate/` into a model's folder; its path.

    From then on `from_pretrained(folder, trust_remote_code=True).generate(...)` drafts, and so does
    `transformers serve --trust-remote-code`. On the Hub, `generate(custom_generate="owner/name",
    trust_remote_code=True)` lends it to any model. It needs Draftwood where it runs.

    drafter: the spec of calls that name none.

    Raises:
        ModelNotFound: where there is no such folder.
        InvalidSpec, InvalidOption: for a spec that names no drafter.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelNotFound(f"{folder} is no folder; give the one that holds the model")
    make_priced_drafter(drafter).drafter.close()
    place = folder / "custom_generate"
    place.mkdir(exist_ok=True)
    (place / "generate.py").write_text(_CODE.format(drafter=drafter), encoding="utf-8")
    (place / "requirements.txt").write_text("draftwood\n", encoding="utf-8")
    return place
