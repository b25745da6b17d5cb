r"""Verifying a sampled tree level by level, from the root: what most rules share.

   context        Two children of a node may hold the same token (twins): they were drawn
   /  |  \        independently. Once `a` is accepted, both twins stand for it, and the tokens
  a   b   a       below either of them were all drawn after the same prefix: c, d and e are
 / \      |       tried as one family.
c   d     e
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from draftwood.draft import ROOT, Draft
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, require_sampled, target_law


class LevelByLevel(ABC):
    """Base of the rules that decide one token at a time, by `choose`.

    Where `choose` draws a token that is also a child in the draft, the walk goes on from that
    child: its own children were drawn after the same prefix, and only the prefix counts.

    chance: where draws come from. law: from logits and the tokens before them to weights, such as
    `Sampling(temperature=0.7, top_p=0.9)`; the drafter's rows need not be of the same kind.
    """

    lossless = True

    def __init__(self, chance: Chance, law: Law) -> None:
        self._chance = chance
        self._law = law

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._chance!r}, {self._law!r})"

    @abstractmethod
    def choose(self, draft: Draft, p: Probabilities, children: list[int]) -> int:
        """The next token, distributed as p, after trying the tokens of `children`.

        children: one or more nodes after the same prefix, in the order in which they were drawn.
        """

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it.

        Raises:
            InvalidDraft: for a draft that cannot have been sampled as the rule needs it.
        """
        require_sampled(draft)
        below = families(draft)
        tokens = draft.tokens.tolist()
        at = ROOT
        accepted: list[int] = []
        while True:
            p = target_law(self._law, rows, at + 1, accepted)
            children = below[at]
            token = self.choose(draft, p, children) if children else self._chance.pick(p)
            child = next((child for child in children if tokens[child] == token), None)
            if child is None:
                return Verdict(draft.path(at), token)
            at = child
            accepted.append(token)


def families(draft: Draft) -> list[list[int]]:
    """The nodes to try after each node, earlier siblings first; the last entry is for ROOT.

    They are its children and those of its twins, later siblings that hold the same token; the
    twins' own entries are left empty.
    """
    tokens = draft.tokens.tolist()
    below: list[list[int]] = [[] for _ in range(len(draft) + 1)]
    for node, parent in enumerate(draft.parents.tolist()):
        below[parent].append(node)
    for parent in range(ROOT, len(draft)):
        first: dict[int, int] = {}
        for child in below[parent]:
            twin = first.setdefault(tokens[child], child)
            if twin != child and below[child]:
                below[twin] += below[child]
                below[child] = []
    return below
