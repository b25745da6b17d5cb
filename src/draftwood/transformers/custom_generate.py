"""The decoding loop that `model.generate(custom_generate=...)` calls, with drafts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Literal

from draftwood.batch import BatchDecoder, Request
from draftwood.decode import decode
from draftwood.draft import as_tokens
from draftwood.language_model.drafting import Drafting
from draftwood.language_model.option_checks import CostOption, cost_of
from draftwood.protocols import Drafter, Target
from draftwood.step import Step
from draftwood.text.stop import Stop
from draftwood.transformers.generated_text import GeneratedText
from draftwood.transformers.kept import KeptDrafting
from draftwood.transformers.output import output_of
from draftwood.transformers.prepared import Prepared, prompts_of
from draftwood.transformers.streaming import InStep

log = logging.getLogger(__name__)


def generate(
    model: Any,
    input_ids: Any,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    streamer: Any = None,
    *,
    drafter: str | Drafter = "recall",
    cost: CostOption | Literal["loaded"] = "loaded",
    nodes: int | None = None,
    namespace: str = "",
    prediction: Sequence[Sequence[int]] = (),
    draft_tokenizer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """What `generate` returns without it: the same tokens, in fewer passes of the model.

    Not called by hand, but given to transformers, which prepares inputs, logits processors and
    stopping criteria, and hands on the options that begin with `drafter`:

        model.generate(**inputs, custom_generate=generate, drafter="recall", max_new_tokens=200)

    Greedy tokens are those of plain `generate`; sampled ones, too, for one `torch.manual_seed`, as
    far as the model computes the same logits in passes over several rows (in float32 all but
    always). The model keeps the target and the drafters with their history for the next call
    (`close_drafters` ends them, `statistics` has the figures).

    drafter: a spec, such as "suffix:mode=tree", or a drafter of your own. cost: what a drafted
    token costs: "auto" (measured), None, or a part of a plain step; "loaded": as the spec says,
    else measured. nodes: drafted tokens a step,
    at most. namespace: what is learned here is drafted only here. prediction: likely answers, token
    ids each. draft_tokenizer: the model's tokenizer, of which a drafter's file or small model must
    be, too; None: the one that lies beside the model's weights, if one does.

    Returns what `generate` does: token ids [B, L], or with `return_dict_in_generate` an output with
    sequences, scores and logits. Rows that ended before others have zeros there; keys and values
    are not returned. A cache of the caller's is neither read nor written: the prompt is computed.

    Raises:
        InvalidOption, UnsupportedModel, UnsupportedEngine: for what cannot be given exactly: beams,
            attentions and hidden states, inputs that are no token ids, padding on the right.
        ContextTooLong: for a prompt that leaves no room in the model's context.
    """
    prepared = Prepared.of(input_ids, logits_processor, stopping_criteria, generation_config)
    prompts = prompts_of(input_ids, model_kwargs)
    kept = KeptDrafting.of(model)
    target = kept.target(model, draft_tokenizer)
    own_cost = cost if cost == "loaded" else cost_of("cost", cost)
    drafting = kept.drafters.choose(drafter, cost=own_cost, nodes=nodes)
    texts = [GeneratedText(prepared, row, ids) for row, ids in enumerate(input_ids)]
    likely = [as_tokens(each, vocab_size=target.vocab_size) for each in prediction]
    requests = [
        Request(
            prompt,
            verifier=text,
            stop=Stop(max_tokens=prepared.most, ends=(text.ends,)),
            namespace=namespace,
            prediction=likely,
        )
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    pad = generation_config._pad_token_tensor
    written = InStep(streamer or _streamer_of_caller(), texts, 0 if pad is None else int(pad))
    begun: set[int] = set()
    with closing(_steps(target, drafting, requests)) as steps:
        for number, step in steps:
            with kept.lock:
                plain = drafting.plain_seconds(len(texts))
                kept.stats.add(step, first=number not in begun, plain=plain)
            begun.add(number)
            written.put()
            prepared.draws.forget(min((len(t.tokens) for t in texts if not t.done), default=0))
    if not all(text.done for text in texts):
        log.warning("a text ended at the model's context of %s tokens", target.context_limit)
    written.end()
    return output_of(input_ids, written.columns(), prepared, texts, generation_config)


def _steps(
    target: Target, drafting: Drafting, requests: Sequence[Request]
) -> Generator[tuple[int, Step], None, None]:
    """The steps of one text by itself, or of several in shared passes, with the texts' numbers."""
    if len(requests) == 1:
        (one,) = requests
        steps = decode(
            target,
            drafting.drafter,
            one.verifier,
            one.prompt,
            budget=drafting.budget,
            stop=one.stop,
            namespace=one.namespace,
            prediction=one.prediction,
        )
        with closing(steps):
            for step in steps:
                yield 0, step
        return
    decoder = BatchDecoder(
        target, drafting.drafter, max_batch=len(requests), budget=drafting.budget
    )
    with closing(decoder):
        for request in requests:
            decoder.submit(request)
        while decoder.busy:
            turn = decoder.step()
            for error in turn.failed.values():
                raise error
            yield from turn.steps.items()


def _streamer_of_caller() -> Any:
    """The streamer of the `generate` that called the loop.

    Transformers tells a callable everything but this, and has given it the prompt already: a
    streamer that is never ended would leave its reader waiting.
    """
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "generate":
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None or frame.f_globals.get("__name__") != "transformers.generation.utils":
        return None
    return frame.f_locals.get("streamer")
