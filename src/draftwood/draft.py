r"""The speculation tree: what a drafter proposes, as a token tree in flat arrays.

  context          tokens   a  b  c  d
   /   \           parents -1 -1  0  0        parents stand before children,
  a     b                                     best first, so that every prefix of the
 / \                                          arrays is a valid draft by itself
c   d
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import lt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood import _native
from draftwood.errors import InvalidDraft, InvalidOption, InvalidTokens
from draftwood.markup import tree_html

TokenIds: TypeAlias = NDArray[np.int32]
ROOT = -1
"""Parent of a first token: the committed context."""

_INT32, _FLOAT32, _UINT8 = (np.dtype(kind) for kind in (np.int32, np.float32, np.uint8))
_SURE = 1.001
"""Highest confidence, with what rounding may add to a probability of 1."""
MAX_TOKEN = int(np.iinfo(np.int32).max)
NO_TOKENS: TokenIds = np.empty(0, dtype=np.int32)
NO_TOKENS.flags.writeable = False


def as_tokens(values: ArrayLike, *, vocab_size: int | None = None) -> TokenIds:
    """Token ids as a contiguous int32 array; all ids that enter the package are checked here.

    Returns the argument itself (not a copy) where it already is such an array.

    Raises:
        InvalidTokens: for anything but a flat sequence of integers in [0, 2**31) or, where
            `vocab_size` is given, in [0, vocab_size). Ids are never truncated or rounded to fit.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InvalidTokens(f"token ids have shape {array.shape}; pass a flat sequence of integers")
    if array.size == 0:
        return NO_TOKENS if array.dtype != np.int32 else np.ascontiguousarray(array)
    if array.dtype.kind not in "iu":
        raise InvalidTokens(f"token ids have type {array.dtype}; pass integers")
    limit = MAX_TOKEN if vocab_size is None else vocab_size - 1
    low = int(array.min())
    # int32 cannot exceed the limit of int32: one look less at what comes from our own arrays
    high = low if vocab_size is None and array.dtype == np.int32 else int(array.max())
    if low < 0 or high > limit:
        worst = low if low < 0 else high
        raise InvalidTokens(
            f"token id {worst} is outside [0, {limit}]; use the tokenizer that belongs to the model"
        )
    return np.ascontiguousarray(array, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a draft may cost at most.

    nodes: drafted tokens in all. depth: tokens on one path (None: as `nodes`). floor: in [0, 1],
    the least probability of acceptance of a node (the product of confidences down its path) that is
    worth drafting. Only a hint: a draft may hold less likely nodes.
    """

    nodes: int = 32
    depth: int | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.nodes < 0:
            raise InvalidOption(f"budget of {self.nodes} nodes is negative; use 0 for no draft")
        if self.depth is not None and self.depth < 0:
            raise InvalidOption(f"budget depth {self.depth} is negative; use 0 for no draft")
        if not 0.0 <= self.floor <= 1.0:
            raise InvalidOption(f"budget floor {self.floor} is no probability; use 0 to 1")

    def within(self, depth: int) -> Budget:
        """The same budget, at most `depth` (>= 0) tokens deep."""
        depth = depth if self.depth is None else min(self.depth, depth)
        return Budget(self.nodes, depth, self.floor)

    @property
    def reach(self) -> int:
        """Tokens on the longest path that fits this budget."""
        return self.nodes if self.depth is None else min(self.nodes, self.depth)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Draft:
    """A token tree below the committed context; n nodes in flat arrays, best first.

    tokens: int32 [n]. parents: int32 [n], ROOT or an earlier node. confidence: float32 [n],
    P(accepted | parent accepted); it decides how drafts are cut, never what is accepted. source:
    uint8 [n], which drafter proposed the node (`source_of`). proposal: [n, V] rows q that the
    tokens were *sampled* from, or None where the drafter chose them. evidence: uint8 [n], how well
    founded the confidence is, in classes of the drafter's own such as match lengths; calibration
    keeps the classes apart.

    Raises:
        InvalidDraft: arrays of another type, shape or length; a parent that does not stand before
            its child; negative token ids.
    """

    tokens: TokenIds
    parents: NDArray[np.int32]
    confidence: NDArray[np.float32]
    source: NDArray[np.uint8]
    proposal: NDArray[Any] | None = None
    evidence: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if not self.is_sound(None):
            self._check_arrays()

    def is_sound(self, vocab_size: int | None = None) -> bool:
        """Whether `check` finds nothing wrong; one look in native code.

        False, too, for a draft with proposal rows or evidence, and for arrays in an unusual
        layout: `check` looks longer.
        """
        return (
            self.proposal is None
            and self.evidence is None
            and _native.is_sound(
                self.tokens,
                self.parents,
                self.confidence,
                self.source,
                MAX_TOKEN + 1 if vocab_size is None else vocab_size,
                _SURE,
            )
        )

    def _check_arrays(self) -> None:
        n = len(self.tokens)
        if not len(self.parents) == len(self.confidence) == len(self.source) == n:
            raise InvalidDraft(
                f"{n} tokens with {len(self.parents)} parents, {len(self.confidence)} confidences "
                f"and {len(self.source)} sources; all four need one entry a node"
            )
        _require_flat("tokens", self.tokens, _INT32)
        _require_flat("parents", self.parents, _INT32)
        _require_flat("confidence", self.confidence, _FLOAT32)
        _require_flat("source", self.source, _UINT8)
        if self.proposal is not None:
            if len(self.proposal) != n:
                raise InvalidDraft(f"{n} tokens with {len(self.proposal)} proposal rows; need {n}")
            if not isinstance(self.proposal, np.ndarray):
                raise InvalidDraft("proposal rows are no numpy array; give one of [n, V]")
        if self.evidence is not None:
            if len(self.evidence) != n:
                raise InvalidDraft(
                    f"{n} tokens with {len(self.evidence)} evidence classes; need {n}"
                )
            _require_flat("evidence", self.evidence, _UINT8)
        if not n:
            return
        parents = self.parents.tolist()  # lists beat numpy at the size of a draft
        if not (min(parents) >= ROOT and all(map(lt, parents, range(n)))):
            node = next(i for i, parent in enumerate(parents) if not ROOT <= parent < i)
            raise InvalidDraft(
                f"node {node} has parent {parents[node]}; a parent is {ROOT} or an earlier node"
            )
        low = min(self.tokens.tolist())
        if low < 0:
            raise InvalidDraft(f"a draft holds token id {low}; ids are 0 or more")

    def check(self, vocab_size: int | None = None) -> None:
        """Check everything that verification and budgets rely on; for drafts from other code.

        vocab_size: entries of the target's rows; None: not known.

        Raises:
            InvalidDraft: what the constructor refuses (an array may have changed since); an id that
                is not below `vocab_size`; a confidence outside [0, 1]; proposal rows of another
                size, with NaN, infinite or negative weights, or weight 0 for their own token.
        """
        if self.is_sound(vocab_size):
            return
        if vocab_size is not None and max(self.tokens.tolist(), default=0) >= vocab_size:
            raise InvalidDraft(
                f"a draft holds token id {self.tokens.max()}, and the target has {vocab_size}; "
                "use the tokenizer that belongs to the model"
            )
        self._check_arrays()
        sure = self.confidence.tolist()
        if not all(0.0 <= value <= _SURE for value in sure):
            wrong = next(value for value in sure if not 0.0 <= value <= _SURE)
            raise InvalidDraft(f"a draft has confidence {wrong}; give a probability from 0 to 1")
        if self.proposal is not None and len(self):
            self._check_proposal(vocab_size)

    def _check_proposal(self, vocab_size: int | None) -> None:
        rows: NDArray[Any] = np.asarray(self.proposal)
        if rows.ndim != 2 or (vocab_size is not None and rows.shape[1] != vocab_size):
            raise InvalidDraft(
                f"proposal rows have shape {rows.shape}; give one row a node, with an entry for "
                f"each of {'all' if vocab_size is None else vocab_size} tokens"
            )
        if int(self.tokens.max()) >= rows.shape[1] or not (
            bool((rows >= 0).all())
            and bool((rows.sum(axis=1) < np.inf).all())
            and bool((rows[np.arange(len(rows)), self.tokens] > 0).all())
        ):
            raise InvalidDraft(
                "a proposal row cannot have given its token; pass the rows that tokens were drawn "
                "from: finite weights of 0 or more, above 0 for the token itself"
            )

    @classmethod
    def trusted(
        cls,
        tokens: TokenIds,
        parents: NDArray[np.int32],
        confidence: NDArray[np.float32],
        source: NDArray[np.uint8],
    ) -> Draft:
        """A draft from arrays that are known to be valid; nothing is checked here.

        For this library's own history drafters. Whoever serves drafts checks these like all others
        (`check`), so that a drafter that passes broken arrays here loses its drafts.
        """
        draft = object.__new__(cls)
        put = object.__setattr__
        put(draft, "tokens", tokens)
        put(draft, "parents", parents)
        put(draft, "confidence", confidence)
        put(draft, "source", source)
        put(draft, "proposal", None)
        put(draft, "evidence", None)
        return draft

    def with_confidence(self, confidence: NDArray[np.float32]) -> Draft:
        """The same nodes with another confidence, float32 [n]."""
        return Draft(
            self.tokens, self.parents, confidence, self.source, self.proposal, self.evidence
        )

    @classmethod
    def empty(cls) -> Draft:
        """The draft without nodes: a plain decoding step."""
        return _EMPTY

    @classmethod
    def tree(
        cls,
        tokens: ArrayLike,
        parents: ArrayLike,
        *,
        confidence: ArrayLike | float = 1.0,
        source: int = 0,
        proposal: NDArray[Any] | None = None,
    ) -> Draft:
        """A draft from lists or arrays; a scalar `confidence` holds for every node."""
        ids = as_tokens(tokens)
        n = len(ids)
        return cls(
            ids,
            np.asarray(parents, dtype=np.int32).reshape(-1),
            np.array(np.broadcast_to(np.asarray(confidence, dtype=np.float32), (n,))),
            np.full(n, source, dtype=np.uint8),
            proposal,
        )

    @classmethod
    def chain(
        cls,
        tokens: ArrayLike,
        *,
        confidence: ArrayLike | float = 1.0,
        source: int = 0,
        proposal: NDArray[Any] | None = None,
    ) -> Draft:
        """A draft without branches: each token continues the one before it."""
        ids = as_tokens(tokens)
        parents = np.arange(-1, len(ids) - 1, dtype=np.int32)
        return cls.tree(ids, parents, confidence=confidence, source=source, proposal=proposal)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        if not len(self):
            return "Draft(0 nodes)"
        best = " ".join(map(str, self.to_chain(8).tokens.tolist()))
        nodes = f"{len(self)} node{'s' if len(self) > 1 else ''}"
        return f"Draft({nodes}, {self.height} deep, begins {best})"

    def _repr_html_(self) -> str:
        """The tree as nested lists of token ids, for notebooks."""
        return self.html(str)

    def html(self, label: Callable[[int], str]) -> str:
        """The tree as nested lists. label: the text of a token id, such as `llm.decode([id])`."""
        labels = [label(token) for token in self.tokens.tolist()]
        return tree_html(labels, self.parents.tolist(), self.confidence.tolist())

    @property
    def depths(self) -> NDArray[np.int32]:
        """int32 [n]: tokens on the path to each node, itself included; 1 below the context."""
        return np.array(self._depths(), dtype=np.int32)

    @property
    def height(self) -> int:
        """Tokens on the longest path; 0 for the empty draft."""
        if not len(self):
            return 0
        return len(self) if self.is_chain else max(self._depths())

    @property
    def expected(self) -> float:
        """Expected accepted tokens: over all nodes, the product of confidences on the path.

        SCORE(T) of SuffixDecoding (arXiv 2411.04975, section 4.2).
        """
        reached = np.empty(len(self))
        for node, parent in enumerate(self.parents.tolist()):
            above = 1.0 if parent == ROOT else reached[parent]
            reached[node] = above * self.confidence[node]
        return float(reached.sum())

    @property
    def is_chain(self) -> bool:
        """Whether every node continues the one before it."""
        n = len(self)
        if n and int(self.parents[-1]) != n - 2:  # tells most trees at once
            return False
        return bool(self.parents.tolist() == list(range(-1, n - 1)))

    def mask(self) -> NDArray[np.bool_]:
        """bool [n, n]: row i sees column j where j is i or an ancestor of i."""
        n = len(self)
        if self.is_chain:
            return np.tri(n, dtype=np.bool_)
        mask = np.eye(n, dtype=np.bool_)
        for node, parent in enumerate(self.parents.tolist()):
            if parent != ROOT:
                mask[node] |= mask[parent]
        return mask

    def path(self, node: int) -> NDArray[np.int32]:
        """int32 [depth]: the nodes from the first token to `node`; empty for ROOT."""
        if not ROOT <= node < len(self):
            raise InvalidDraft(f"node {node} is not in a draft of {len(self)} nodes")
        reverse = []
        while node != ROOT:
            reverse.append(node)
            node = int(self.parents[node])
        return np.array(reverse[::-1], dtype=np.int32)

    def children(self, node: int) -> NDArray[np.intp]:
        """The nodes whose parent is `node` (ROOT: the first tokens), best first."""
        return np.flatnonzero(self.parents == node)

    def cut(self, *, nodes: int | None = None, leaves: int | None = None) -> Draft:
        """The first nodes, as many as stay within `nodes` nodes and `leaves` leaves."""
        keep = len(self) if nodes is None else max(0, min(nodes, len(self)))
        if leaves is not None:
            keep = min(keep, self._prefix_with_leaves(leaves))
        return self if keep == len(self) else self._select(slice(keep), self.parents[:keep])

    def shallow(self, depth: int) -> Draft:
        """The nodes at most `depth` tokens below the context."""
        kept = np.flatnonzero(self.depths <= depth)
        place = np.full(len(self) + 1, ROOT, dtype=np.int32)  # entry -1 stands for ROOT
        place[kept] = np.arange(len(kept), dtype=np.int32)
        return self._select(kept, place[self.parents[kept]])

    def only(self, nodes: Sequence[int]) -> Draft:
        """Some of the nodes, given in rising order, with the parent of each."""
        place = {ROOT: ROOT} | {node: at for at, node in enumerate(nodes)}
        kept = np.array(nodes, dtype=np.intp)
        try:
            parents = [place[parent] for parent in self.parents[kept].tolist()]
        except KeyError as missing:
            raise InvalidDraft(f"node {missing} is left out but not its children") from None
        return self._select(kept, np.array(parents, dtype=np.int32))

    def to_chain(self, k: int | None = None) -> Draft:
        """The most confident child at every level, at most `k` tokens; ties: the earlier node.

        Where tokens were sampled (`proposal` is set) it is the first child at every level instead:
        choosing among samples by their tokens would change the distribution they were drawn from.
        """
        nodes: list[int] = []
        at = ROOT
        limit = len(self) if k is None else k
        while len(nodes) < limit:
            below = self.children(at)
            if not len(below):
                break
            best = 0 if self.proposal is not None else int(np.argmax(self.confidence[below]))
            at = int(below[best])
            nodes.append(at)
        parents = np.arange(-1, len(nodes) - 1, dtype=np.int32)
        return self._select(np.array(nodes, dtype=np.intp), parents)

    def first_child_next_sibling(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Two int32 [n + 1] arrays over rows (row 0 is the context, row i + 1 is node i).

        Entry r of the first is the row of r's first child, of the second that of its next sibling;
        -1 where there is none. The form in which SGLang's kernels take a tree.
        """
        first = np.full(len(self) + 1, -1, dtype=np.int32)
        sibling = np.full(len(self) + 1, -1, dtype=np.int32)
        last: dict[int, int] = {}
        for node, parent in enumerate(self.parents.tolist()):
            if parent in last:
                sibling[last[parent]] = node + 1
            else:
                first[parent + 1] = node + 1
            last[parent] = node + 1
        return first, sibling

    def _depths(self) -> list[int]:
        depths: list[int] = []
        for parent in self.parents.tolist():
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return depths

    def _select(self, nodes: NDArray[np.intp] | slice, parents: NDArray[np.int32]) -> Draft:
        return Draft(
            self.tokens[nodes],
            parents,
            self.confidence[nodes],
            self.source[nodes],
            None if self.proposal is None else self.proposal[nodes],
            None if self.evidence is None else self.evidence[nodes],
        )

    def _prefix_with_leaves(self, leaves: int) -> int:
        """How many nodes stand before the one that would open leaf number `leaves` + 1."""
        has_child: set[int] = set()
        count = 0
        for node, parent in enumerate(self.parents.tolist()):
            count += parent == ROOT or parent in has_child
            has_child.add(parent)
            if count > leaves:
                return node
        return len(self)


def _require_flat(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Nothing, for a flat array of this type.

    Raises:
        InvalidDraft: for anything else.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        found = type(array).__name__
        if isinstance(array, np.ndarray):
            found = f"an array of {array.dtype} with shape {array.shape}"
        raise InvalidDraft(f"{name} of a draft are {found}; give a flat numpy array of {dtype}")


def accepted_tokens(draft: Draft, path: Sequence[int] | NDArray[np.int32]) -> TokenIds:
    """The tokens of the nodes on `path`."""
    return draft.tokens[np.asarray(path, dtype=np.intp)]


_EMPTY = Draft.trusted(
    NO_TOKENS,
    np.empty(0, dtype=np.int32),
    np.empty(0, dtype=np.float32),
    np.empty(0, dtype=np.uint8),
)
