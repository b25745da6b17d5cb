"""One call of a language model: from prompts and options to texts that can be generated."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from draftwood.draft import TokenIds
from draftwood.drafters.ruled import RuledDrafter
from draftwood.errors import DraftwoodError, InvalidTokens
from draftwood.guarded import shares_calls
from draftwood.language_model.drafting import Drafting
from draftwood.language_model.generation import Generation, Run, refused
from draftwood.language_model.options import Settings
from draftwood.language_model.prompts import PromptEncoder
from draftwood.language_model.running import UntilTheEnd
from draftwood.protocols import Drafter, Verifier
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import Foreseeing, LogitBias
from draftwood.targets.transformers.generation_config import GenerationSettings
from draftwood.text.decoding import Decoding
from draftwood.text.stop import Stop
from draftwood.text.stream import TextStream
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

if TYPE_CHECKING:
    from draftwood.targets.engine_model import LoadedTarget


@dataclass(frozen=True, slots=True)
class GenerationCall:
    """What a call's texts are made from: parts of the model, and the options of the call.

    own: the model's generation config. drafting: the drafter and budget of this call.
    """

    target: LoadedTarget
    prompts: PromptEncoder
    decoding: Decoding
    own: GenerationSettings
    end_tokens: Collection[int]
    settings: Settings
    drafting: Drafting

    def texts(self, prompts: Sequence[Any], count: int) -> list[Run | Generation]:
        """`count` texts of each prompt, in order, ready to be generated.

        With errors="return", a prompt that is refused has finished texts in their place.
        """
        texts: list[Run | Generation] = []
        for prompt in prompts:
            try:
                ids = self.encoded(prompt)
                texts += [
                    self.run(ids, number=number, batched=len(prompts) * count > 1)
                    for number in range(len(texts), len(texts) + count)
                ]
            except DraftwoodError as error:
                if self.settings.errors == "raise":
                    raise
                texts += [refused(error, self.settings) for _ in range(count)]
        return texts

    def encoded(self, prompt: Any) -> TokenIds:
        """The prompt's ids, once it is sure that the target takes them.

        Raises:
            InvalidTokens: for an empty prompt, or ids that the model does not have.
            ContextTooLong: for a prompt that leaves no room in the model's context.
        """
        ids = self.prompts.encode(
            prompt,
            chat=self.settings.chat,
            tools=self.settings.tools,
            chat_template_kwargs=self.settings.chat_template_kwargs,
        )
        if not len(ids):
            raise InvalidTokens("the prompt has 0 tokens; give at least one character")
        self.target.admit(ids)
        return ids

    def run(self, prompt: TokenIds, *, number: int = 0, batched: bool = False) -> Run:
        """Text number `number` of the call, ready to be generated."""
        settings = self.settings
        self.own.check(self.end_tokens)  # it may have been changed
        max_tokens = settings.max_tokens
        if "max_tokens" not in settings.given:
            max_tokens = self.own.max_tokens(len(prompt), max_tokens)
        sampling = self.sampling(prompt, max_tokens)
        seed: int | None = None
        verifier: Verifier = Greedy(sampling)
        drafter: Drafter | None = None
        if not sampling.greedy:
            seed = new_seed() if settings.seed is None else (settings.seed + number) % 2**64
            noise = GumbelNoise(seed)
            verifier = SharedGumbel(noise, sampling)
            shared = batched and shares_calls(self.drafting.drafter)
            if self.drafting.lookahead is not None and not shared:
                drafter = self.drafting.lookahead.under(noise)
        given: Sequence[object] = settings.logits_processors
        rules = [each for each in given if isinstance(each, Foreseeing)]
        if rules:
            drafter = RuledDrafter(drafter or self.drafting.drafter, rules)
        seconds = settings.max_time if "max_time" in settings.given else self.own.max_seconds
        until = None if seconds is None else monotonic() + seconds
        stops = (*settings.stops, *self.own.stop_strings)
        text = TextStream(self.decoding, stops, prompt.tolist() if stops else ())
        return Run(
            prompt,
            verifier,
            text,
            Stop(max_tokens, self.end_tokens, stop_token_ids=settings.stop_token_ids, until=until),
            settings,
            seed=seed,
            drafter=drafter,
            prediction=self.prompts.predictions(settings.prediction),
        )

    def joining(self, prompt: Any, shared: Drafting) -> Run:
        """A text of a batch; it drafts as `shared` says, unless it names a drafter of its own."""
        if self.settings.drafter is None:
            return replace(self, drafting=shared).run(self.encoded(prompt), batched=True)
        run = self.run(self.encoded(prompt), batched=True)
        if run.request.drafter is None:
            run.request = replace(run.request, drafter=self.drafting.drafter)
        return run

    def sampling(self, prompt: TokenIds, max_tokens: int | None) -> Sampling:
        """How tokens are sampled: the options, completed by the model's generation config."""
        settings = self.settings
        ends = frozenset(self.end_tokens).union(settings.stop_token_ids)
        processors: tuple[Any, ...] = tuple(
            UntilTheEnd(each, ends, len(prompt)) for each in settings.logits_processors
        )
        if settings.logit_bias:
            processors = (LogitBias(settings.logit_bias), *processors)
        law = settings.sampling
        if law is not None:
            return replace(law, processors=(*law.processors, *processors))
        return self.own.sampling(
            prompt,
            max_tokens=max_tokens,
            end_tokens=self.end_tokens,
            **settings.laws,
            processors=processors,
        )


def new_seed() -> int:
    """A seed that was not used before, in all likelihood."""
    return secrets.randbits(31)
