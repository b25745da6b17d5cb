"""What a step says about a draft that was part of what was verified, or left out of it."""

from __future__ import annotations

import numpy as np

from draftwood.draft import ROOT, Draft
from draftwood.protocols import Feedback, Verdict


def retold(feedback: Feedback, draft: Draft) -> Feedback:
    """The same outcome in terms of another draft of *chosen* tokens for the same context.

    Its accepted path is as far as it agrees with what came, nodes that were not verified included;
    its next token is what came after that, None where nothing did. `rows` is None, as they belong
    to the draft that was verified, which `whole` tells about.
    """
    child = {
        step: node
        for node, step in enumerate(zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True))
    }
    path: list[int] = []
    at, after = ROOT, None
    for token in feedback.tokens.tolist():
        node = child.get((at, token))
        if node is None:
            after = token
            break
        path.append(node)
        at = node
    verdict = Verdict(np.array(path, dtype=np.int32), after)
    return Feedback(draft, verdict, feedback.tokens, None, feedback.whole or feedback)
