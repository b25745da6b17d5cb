"""The history of an engine: in memory, or a file of its own in a folder that several share."""

from __future__ import annotations

import os
from collections.abc import Mapping

from draftwood.drafters.catalog import PricedDrafter, make_priced_drafter
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.spec import parse
from draftwood.errors import HistoryBusy, InvalidOption
from draftwood.protocols import PairsWithTarget, TargetInfo
from draftwood.serving.options import EngineOptions

MOST_WRITERS = 256
"""Files that are tried in a folder."""


def engine_drafter(
    options: EngineOptions,
    *,
    nodes: int,
    trees: bool,
    vocab: Mapping[str, int] | None,
    vocab_size: int,
) -> PricedDrafter:
    """The drafter that options name, its history opened, paired with the model's tokenizer.

    nodes: the largest draft that the engine verifies. trees: whether it may branch. vocab: None
    where it is not known; a file is then not checked against it. With a path, it writes the first
    file of the folder that no other engine writes, so that an engine that starts again goes on
    with what it knew.

    Raises:
        InvalidSpec: for options that name no drafter.
        InvalidOption: for a value out of range.
        HistoryError: for a file that is no history, or is written by another process.
        OSError: for a folder or file that cannot be read or written.
    """
    parsed = parse(options.drafter)
    if parsed.name != "recall":
        if options.path is not None:
            raise InvalidOption(
                f"draftwood option path is {options.path!r} and the drafter {parsed.name!r} keeps "
                "no history there; use the drafter 'recall', or no path"
            )
        return _paired(_made(options, options.drafter), vocab, vocab_size)
    given = {
        "mode": "tree" if trees else "chain",
        "nodes": str(nodes),
        "share": str(options.share),
        "threads": str(options.threads),
        "max_tokens": str(options.max_tokens),
        **parsed.options,
    }
    if options.path is None:
        return _paired(_made(options, _spec(given)), vocab, vocab_size)
    folder = os.path.expanduser(options.path)
    if "," in folder:
        raise InvalidOption(f"path is {folder!r}; use a folder without a comma in its name")
    os.makedirs(folder, exist_ok=True)
    for number in range(MOST_WRITERS):
        given["path"] = os.path.join(folder, f"history-{number}.recall")
        try:
            return _paired(_made(options, _spec(given)), vocab, vocab_size)
        except HistoryBusy:
            continue
    raise InvalidOption(
        f"{folder} has {MOST_WRITERS} history files and other processes write all of them; use "
        "another folder"
    )


def unshared(drafter: RecallDrafter) -> RecallDrafter:
    """A drafter on the same history whose requests share nothing of what they generate."""
    return RecallDrafter(
        nodes=drafter.nodes,
        mode=drafter.policy.mode,
        floor=drafter.policy.floor,
        share=2**31 - 1,
        recall=drafter.recall,
        threads=drafter.threads,
    )


def _made(options: EngineOptions, spec: str) -> PricedDrafter:
    written = parse(spec).options
    if "cost" not in written:
        head, colon, rest = spec.partition(":")
        spec = f"{head}:cost={options.cost}" + (f",{rest}" if colon and rest else "")
    return make_priced_drafter(spec)


def _spec(given: Mapping[str, str]) -> str:
    return "recall:" + ",".join(f"{key}={value}" for key, value in given.items())


def _paired(
    priced: PricedDrafter, vocab: Mapping[str, int] | None, vocab_size: int
) -> PricedDrafter:
    drafter: object = priced.drafter
    if isinstance(drafter, PairsWithTarget):
        drafter.pair(TargetInfo(vocab, vocab_size))
    return priced
