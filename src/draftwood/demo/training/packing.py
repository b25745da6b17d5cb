"""Training batches as token trees: what prompts share is computed once.

The exchanges of one episode share long prefixes (schema, question, earlier stages). `pack` merges
them into a trie whose nodes each attend to their ancestors only, with the depth as position: the
layout in which Draftwood verifies drafts, used here for training. On this world it needs about a
third of the tokens that separate sequences would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds


@dataclass(frozen=True, slots=True)
class Pack:
    """One episode as a tree in flat arrays, parents before children."""

    tokens: TokenIds  # [n]
    parents: NDArray[np.int32]  # [n]; -1 for the root
    depths: NDArray[np.int32]  # [n]
    weights: NDArray[np.float32]  # [n]; the weight of predicting this node from its parent
    ancestors: NDArray[np.bool_]  # [n, n]; row attends to column
    responses: tuple[NDArray[np.int32], ...]  # for each sequence, the nodes of its response


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Packs padded to one length, and which predictions count in the loss."""

    tokens: NDArray[np.int64]  # [b, n]
    positions: NDArray[np.int64]  # [b, n]
    mask: NDArray[np.bool_]  # [b, 1, n, n]
    sources: NDArray[np.int64]  # [m]; flat indices of the predicting nodes
    labels: NDArray[np.int64]  # [m]; the tokens to predict
    weights: NDArray[np.float32]  # [m]


def pack_sequences(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]], prompt_weight: float
) -> Pack:
    """Merge (prompt, response) sequences into a trie.

    A node that several responses share weighs as much as all of them; a prompt's node weighs
    `prompt_weight`, once.
    """
    children: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    weights: list[float] = []
    responses: list[NDArray[np.int32]] = []
    for prompt, response in sequences:
        node, path = -1, list[int]()
        for depth, token in enumerate((*prompt, *response)):
            parent, node = node, children.get((node, token), -1)
            if node < 0:
                node = children[(parent, token)] = len(tokens)
                tokens.append(token)
                parents.append(parent)
                depths.append(depth)
                weights.append(prompt_weight if parent >= 0 else 0.0)
            if depth >= len(prompt):
                weights[node] += 1.0
                path.append(node)
        responses.append(np.array(path, np.int32))
    ancestors = np.eye(len(tokens), dtype=np.bool_)
    for node, parent in enumerate(parents):
        if parent >= 0:
            ancestors[node] |= ancestors[parent]
    return Pack(
        np.array(tokens, np.int32),
        np.array(parents, np.int32),
        np.array(depths, np.int32),
        np.array(weights, np.float32),
        ancestors,
        tuple(responses),
    )


def collate(packs: Sequence[Pack], *, multiple: int = 32) -> TrainingBatch:
    """Pad packs to one length, a multiple of `multiple`; padding attends to itself."""
    longest = max(len(p.tokens) for p in packs)
    width = -(-longest // multiple) * multiple
    tokens = np.zeros((len(packs), width), np.int64)
    positions = np.zeros((len(packs), width), np.int64)
    mask = np.zeros((len(packs), 1, width, width), np.bool_)
    mask[:, :, np.arange(width), np.arange(width)] = True
    sources, labels, weights = [], [], []
    for row, p in enumerate(packs):
        size = len(p.tokens)
        tokens[row, :size] = p.tokens
        positions[row, :size] = p.depths
        mask[row, 0, :size, :size] |= p.ancestors
        counted = np.flatnonzero(p.weights > 0)
        sources.append(row * width + p.parents[counted].astype(np.int64))
        labels.append(p.tokens[counted].astype(np.int64))
        weights.append(p.weights[counted])
    return TrainingBatch(
        tokens,
        positions,
        mask,
        np.concatenate(sources),
        np.concatenate(labels),
        np.concatenate(weights),
    )
