"""What a draft must be like before it is verified."""

from __future__ import annotations

from dataclasses import dataclass

from draftwood.draft import Budget, Draft
from draftwood.errors import InvalidDraft


@dataclass(frozen=True, slots=True)
class DraftRules:
    """What drafts have to keep to, beside their budget.

    vocab_size: entries of the target's rows; None: not known. sampled: whether tokens may have been
    sampled, which nobody may choose among.
    """

    vocab_size: int | None = None
    sampled: bool = True


NO_RULES = DraftRules()
"""The target's vocabulary is not known, and drafts may be sampled."""


def checked_draft(draft: Draft, budget: Budget, rules: DraftRules = NO_RULES) -> Draft:
    """The part of a draft that a budget allows, found fit to be verified (`Draft.check`).

    Raises:
        InvalidDraft: for a draft that is not fit, or is no `Draft`.
    """
    # the usual case, made short: nothing to cut, and one look in native code
    if type(draft) is Draft and len(draft) <= budget.reach and draft.is_sound(rules.vocab_size):
        return draft
    if not isinstance(draft, Draft):
        raise InvalidDraft(f"a drafter proposed {type(draft).__name__}; propose a Draft")
    if draft.proposal is not None and not rules.sampled:
        raise InvalidDraft(
            f"a draft of {len(draft)} sampled tokens cannot be ranked by what they are, which "
            "would change the law of the text; use a drafter that chooses its tokens"
        )
    if len(draft) > budget.nodes:
        draft = draft.cut(nodes=budget.nodes)
    draft.check(rules.vocab_size)
    # no path has more tokens than the draft has nodes
    if len(draft) > budget.reach and draft.height > budget.reach:
        return draft.to_depth(budget.reach)
    return draft
