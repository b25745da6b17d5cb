"""The loop: draft, score, verify, commit. Text and statistics are computed from its steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from time import perf_counter

from numpy.typing import ArrayLike

from draftwood.budget.spender import PassReport, Spender, spender_of
from draftwood.draft import Budget, TokenIds, as_tokens
from draftwood.errors import InvalidTokens
from draftwood.guarded import DraftRules, GuardedStream
from draftwood.protocols import Drafter, Feedback, Target, Verifier, Vocabulary
from draftwood.step import Seconds, Step
from draftwood.text.stop import Stop


def decode(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    prompt: ArrayLike,
    *,
    budget: Budget | Spender | None = None,
    stop: Stop | None = None,
    namespace: str = "",
    prediction: Sequence[TokenIds] = (),
) -> Generator[Step, None, None]:
    """Generate after `prompt`, a step at a time; each step yields one or more tokens.

    prompt: token ids [>= 1]. budget: the most a draft may hold (None: 64 nodes; a drafter's own
    limit applies as well), or a spender that cuts drafts to what pays. stop: when to end (None: at
    the context's end only). namespace: what is learned here is drafted only here.
    prediction: likely answers, int32 tokens each, for drafters that can use them.

    A drafter that raises, or makes an invalid draft, does not end the request: generation goes on
    without drafts (logged once a sequence).

    Raises:
        InvalidTokens: an empty prompt, or invalid token ids.
        ContextTooLong: from the target, for a prompt beyond its context.
    """
    prompt = as_tokens(prompt)
    if not len(prompt):
        raise InvalidTokens("the prompt has 0 tokens; begin with at least one, such as BOS")
    stream = partial(
        GuardedStream,
        drafter,
        prompt,
        namespace,
        prediction,
        rules=DraftRules(vocab_size_of(target)),
    )
    return _steps(target, stream, verifier, prompt, spender_of(budget), stop or Stop())


def _steps(
    target: Target,
    open_stream: Callable[[], GuardedStream],
    verifier: Verifier,
    prompt: TokenIds,
    spender: Spender,
    stop: Stop,
) -> Generator[Step, None, None]:
    generated, finish = 0, None
    with closing(target.open(prompt)) as cursor, closing(open_stream()) as stream:
        while finish is None:
            start = perf_counter()
            room, context = cursor.room, len(prompt) + generated
            budget = spender.plan(1, context)
            draft = stream.propose(budget.within(reach(stop, generated, room, budget)))
            if not target.trees:
                draft = draft.to_chain()
            (draft,) = spender.spend([draft], context)
            drafted = perf_counter()
            rows = cursor.score(draft)
            scored = perf_counter()
            verdict = verifier.verify(draft, rows)
            verdict, finish = stop.apply(draft, verdict, generated=generated, room=room)
            cursor.commit(draft, verdict)
            verified = perf_counter()
            tokens = verdict.tokens(draft)
            stream.observe(Feedback(draft, verdict, tokens, rows))
            seconds = Seconds(
                drafted - start, scored - drafted, verified - scored, perf_counter() - verified
            )
            # the first pass computes the prompt as well
            timed = seconds.total - seconds.draft if generated else None
            generated += len(tokens)
            spender.observe(
                PassReport(
                    asked=budget.nodes > 0,
                    drafts=[draft],
                    accepted=[len(verdict.path)],
                    context=context,
                    padded=False,
                    draft_seconds=seconds.draft,
                    pass_seconds=timed,
                )
            )
            yield Step(draft, verdict, tokens, seconds, finish)


def vocab_size_of(target: Target) -> int | None:
    """Entries of the target's rows; None where the target does not say."""
    return target.vocab_size if isinstance(target, Vocabulary) else None


def reach(stop: Stop, generated: int, room: int | None, budget: Budget) -> int:
    """The deepest useful draft: one token less than may still come, as the target adds its own."""
    limits = [budget.reach]
    if room is not None:
        limits.append(room - 1)
    if stop.max_tokens is not None:
        limits.append(stop.max_tokens - generated - 1)
    return max(0, min(limits))
