"""Where the gain comes from: by fields of the log, by turn, by time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from draftwood.advise.interval import gain_of
from draftwood.advise.ledger import Values
from draftwood.logs.call import Record

_USUAL = ("stage", "model", "user")
_MOST = 12
"""Values of a field that have a row of their own; the rest share one."""
_TURNS = ("turn 1", "turns 2 to 4", "turns 5 and later")
_QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")


def splits_of(
    records: Sequence[Record], plain: Values, drafted: Values, unit: Any, fields: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows with by, value, requests, tokens, speedup, low, high and share_of_gain.

    share_of_gain: of the time that is saved in all; parts of a split that lose have a negative one.
    A split is left out where all requests are alike.
    """
    found = []
    for name, labels in _labelings(records, fields):
        kept = {value for value, _ in Counter(labels).most_common(_MOST)}
        groups: dict[str, list[int]] = defaultdict(list)
        for at, label in enumerate(labels):
            groups[label if label in kept else "others"].append(at)
        if len(groups) < 2:
            continue
        saved = float((plain - drafted).sum())
        for value, places in groups.items():
            index = np.array(places)
            gain = gain_of(plain[index], drafted[index], unit[index])
            found.append(
                {
                    "by": name,
                    "value": value,
                    "requests": len(places),
                    "tokens": int(sum(len(records[at].response) for at in places)),
                    "speedup": gain.speedup,
                    "low": gain.low,
                    "high": gain.high,
                    "share_of_gain": float((plain[index] - drafted[index]).sum()) / saved
                    if saved
                    else 0.0,
                }
            )
    return found


def _labelings(records: Sequence[Record], fields: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for name in dict.fromkeys((*_USUAL, *fields)):
        labels = [each.fields.get(name, "none") for each in records]
        if name in fields or (len(set(labels)) > 1 and len(set(labels)) * 2 <= len(labels)):
            yield name, labels
    turns: Counter[str] = Counter()
    places = []
    for each in records:
        name = each.session or f"~{each.number}"
        turns[name] += 1
        places.append(_TURNS[0 if turns[name] == 1 else 1 if turns[name] < 5 else 2])
    yield "turn", places
    count = len(records)
    if count >= 4 * len(_QUARTERS):
        yield "time", [_QUARTERS[4 * at // count] for at in range(count)]
