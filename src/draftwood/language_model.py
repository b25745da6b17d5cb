"""A model, its tokenizer and a drafter together: text from prompts, one or many."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from draftwood.batch import Request, decode_batch
from draftwood.budget.spender import Spender
from draftwood.decode import decode
from draftwood.draft import Budget, TokenIds, as_tokens
from draftwood.drafters.seeded import Foresight
from draftwood.errors import InvalidOption, InvalidTokens
from draftwood.protocols import BatchDrafter, Drafter, Paired, Partner, Step, Verifier
from draftwood.sampling.law import Sampling
from draftwood.stats import Stats
from draftwood.targets.transformers.generation_config import GenerationSettings
from draftwood.text.stop import Stop
from draftwood.text.stream import TextStream
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

if TYPE_CHECKING:
    from draftwood.targets.transformers.target import TransformersTarget

Message: TypeAlias = Mapping[str, Any]
"""One turn of a chat: {"role": "user", "content": "..."}."""

Prompt: TypeAlias = str | Sequence[Message] | Sequence[int] | NDArray[np.integer[Any]]
"""Text, the turns of a chat, or token ids."""

Prompts: TypeAlias = (
    list[str]
    | Sequence[Sequence[Message]]
    | Sequence[Sequence[int]]
    | Sequence[NDArray[np.integer[Any]]]
)
"""Several prompts of one kind."""


class Options(TypedDict, total=False):
    """How to generate; every option may be left out.

    max_tokens: None: until the model ends; left out, the model's own generation config decides, or
    256. temperature: 0 is greedy; left out, it is 0 unless the model's generation config says
    `do_sample`. top_k, top_p, min_p, repetition_penalty: as `Sampling` defines them; where one is
    left out, the model's generation config decides, and top_k is 50 where that is silent, as in
    `generate` of transformers. seed: of the text at temperature > 0, the same with every drafter
    and with none; in [0, 2**64); left out, a new one is chosen.
    stop: strings that end the text, which ends before them. namespace: what is learned from this
    text is drafted only there. chat: whether a text prompt is put into the model's chat template;
    left out, it is where the model has one. on_step: called with each step. max_batch: of several
    prompts, how many go through the model at once; 8.
    """

    max_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: Sequence[str]
    namespace: str
    chat: bool | None
    on_step: Callable[[Step], object] | None
    max_batch: int


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What was generated.

    tokens: int32, the end token included. finish: "stop" (end token or stop string), "length"
    (max_tokens) or "context" (the model's limit). seed: what the text was drawn with; None for
    greedy text.
    """

    text: str
    tokens: TokenIds
    finish: str
    stats: Stats
    prompt_tokens: int
    seed: int | None = None


class LanguageModel:
    """A model, its tokenizer and a drafter that learns from whatever is generated.

    Several threads may generate at once where the drafter and the model allow it. `stats` holds
    the figures of all that was generated, unfinished texts included.

    tokenizer: of the transformers library, or like one. budget: the most a draft may hold (None:
    64 nodes), or a spender that cuts drafts to what pays, such as `Spending`. end_tokens: ids that
    end a text; None: those that the model's generation config names, else the tokenizer's.
    foresight: at temperature > 0, let drafts look up the noise of the seed while that pays
    (`Foresight`); in batches only where the drafter has no call for all.
    """

    def __init__(
        self,
        target: TransformersTarget,
        tokenizer: Any,
        drafter: Drafter,
        *,
        budget: Budget | Spender | None = None,
        end_tokens: Collection[int] | None = None,
        foresight: bool = True,
    ) -> None:
        self.target = target
        self.tokenizer = tokenizer
        self.drafter = drafter
        self.foresight = Foresight(drafter) if foresight else None
        self.budget = budget
        if isinstance(drafter, Paired):
            drafter.pair(_partner(target, tokenizer))
        self.stats = Stats()
        self.own = GenerationSettings(target.model)
        if end_tokens is None:
            end_tokens = self.own.end_tokens
        self.end_tokens = _end_tokens(tokenizer) if end_tokens is None else end_tokens
        self.own.check(self.end_tokens)
        self._stats_lock = Lock()

    @overload
    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Generation: ...

    @overload
    def generate(self, prompt: Prompts, **options: Unpack[Options]) -> list[Generation]: ...

    def generate(self, prompt: Any, **options: Unpack[Options]) -> Any:
        """Generate to the end; for a list of prompts, a list in the same order.

        Several prompts go through the model together, `max_batch` at once, and give the texts that
        each would give by itself; prompt number i (from 0) is drawn with `seed` + i. Caches then
        hold up to 2 * (longest prompt + text + draft) tokens for each of the `max_batch`, at
        2 * layers * key-value heads * head size numbers a token (`TransformersBatch` has it all).

        Raises:
            InvalidTokens: for an empty prompt, or token ids that the model does not have.
            InvalidOption: for an option outside its range.
            ContextTooLong: for a prompt that leaves no room in the model's context.
        """
        if _is_several(prompt):
            return self._generate_all(prompt, options)
        run = _Run(self, prompt, options)
        for step in run.steps():
            run.take(step)
        return run.generation()

    def _generate_all(self, prompts: Sequence[Prompt], options: Options) -> list[Generation]:
        seed = options.get("seed")
        runs = [
            _Run(
                self,
                prompt,
                options if seed is None else {**options, "seed": seed + number},
                batched=True,
            )
            for number, prompt in enumerate(prompts)
        ]
        for run in runs:
            self.target.admit(run.prompt)
        steps = decode_batch(
            self.target,
            self.drafter,
            [run.request for run in runs],
            max_batch=min(options.get("max_batch", 8), len(runs)),
            budget=self.budget,
        )
        for number, step in steps:
            runs[number].take(step)
        return [run.generation() for run in runs]

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Iterator[str]:
        """The same text in pieces, as it comes; raises what `generate` raises."""
        return filter(None, _Run(self, prompt, options).pieces())

    def encode(self, prompt: Prompt, *, chat: bool | None = None) -> TokenIds:
        """The token ids of a prompt.

        Raises:
            InvalidTokens: for ids that the model does not have.
            InvalidOption: for chat turns where the model has no chat template.
        """
        template = getattr(self.tokenizer, "chat_template", None) is not None
        if isinstance(prompt, str) and (template if chat is None else chat):
            prompt = [{"role": "user", "content": prompt}]
        if isinstance(prompt, str):
            ids = self.tokenizer(prompt)["input_ids"]
        elif len(prompt) and isinstance(prompt[0], Mapping):
            if not template:
                raise InvalidOption("the model has no chat template; give the prompt as text")
            ids = self.tokenizer.apply_chat_template(
                list(prompt), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        else:
            ids = prompt
        return as_tokens(ids, vocab_size=self.target.vocab_size)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def sampling(
        self, options: Options, prompt: TokenIds | None = None, max_tokens: int | None = 256
    ) -> Sampling:
        """The law that `options` ask for, completed by the model's generation config.

        prompt, max_tokens: of the text, on which some keys of the config depend.
        """
        return self.own.sampling(
            as_tokens([0]) if prompt is None else prompt,
            max_tokens=max_tokens,
            end_tokens=self.end_tokens,
            temperature=options.get("temperature"),
            top_k=options.get("top_k"),
            top_p=options.get("top_p"),
            min_p=options.get("min_p"),
            repetition_penalty=options.get("repetition_penalty"),
        )

    def close(self) -> None:
        """End the drafter and the target, which gives back files and locks; not used again."""
        try:
            self.drafter.close()
        finally:
            self.target.close()

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Run:
    """One generation on its way: its settings are checked when it is made."""

    def __init__(
        self, model: LanguageModel, prompt: Prompt, options: Options, *, batched: bool = False
    ) -> None:
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise InvalidOption(
                f"no option is named {min(unknown)!r}; choose from "
                + ", ".join(sorted(Options.__annotations__))
            )
        self.prompt = model.encode(prompt, chat=options.get("chat"))
        if not len(self.prompt):
            raise InvalidTokens("the prompt has 0 tokens; give at least one character")
        max_tokens = (
            options["max_tokens"]
            if "max_tokens" in options
            else model.own.max_tokens(len(self.prompt), 256)
        )
        sampling = model.sampling(options, self.prompt, max_tokens)
        self.seed: int | None = None
        verifier: Verifier = Greedy(sampling)
        drafter: Drafter | None = None
        shared = isinstance(model.drafter, BatchDrafter)
        if not sampling.greedy:
            seed = options.get("seed")
            self.seed = new_seed() if seed is None else seed
            noise = GumbelNoise(self.seed)
            verifier = SharedGumbel(noise, sampling)
            if model.foresight is not None and not (shared and batched):
                drafter = model.foresight.under(noise)
        self._model = model
        self._on_step = options.get("on_step")
        self._taken: list[Step] = []
        stops = (*options.get("stop", ()), *model.own.stop_strings)
        self._text = TextStream(model.decode, stops)
        self.request = Request(
            self.prompt,
            verifier,
            Stop(max_tokens, model.end_tokens, (self._text,)),
            options.get("namespace", ""),
            drafter,
        )

    def steps(self) -> Iterator[Step]:
        """Generate this prompt by itself."""
        request = self.request
        return decode(
            self._model.target,
            request.drafter or self._model.drafter,
            request.verifier,
            self.prompt,
            budget=self._model.budget,
            stop=request.stop,
            namespace=request.namespace,
        )

    def take(self, step: Step) -> None:
        """Count a step."""
        self._taken.append(step)
        with self._model._stats_lock:
            self._model.stats.add(step)
        if self._on_step is not None:
            self._on_step(step)

    def pieces(self) -> Iterator[str]:
        """The text after each step, pieces that may be empty."""
        for step in self.steps():
            self.take(step)
            yield self._text.take()
        yield self._text.finish()

    def generation(self) -> Generation:
        """What was generated, once it has ended."""
        return Generation(
            text=self._text.finish(),
            tokens=np.concatenate([step.tokens for step in self._taken]),
            finish=self._taken[-1].finish or "stop",
            stats=Stats.of(self._taken),
            prompt_tokens=len(self.prompt),
            seed=self.seed,
        )


def _is_several(prompt: Any) -> bool:
    """Whether it is a list of prompts: of texts, of chats, of lists or arrays of ids."""
    if isinstance(prompt, (str, np.ndarray)) or not len(prompt):
        return False
    return isinstance(prompt[0], (np.ndarray, Sequence))


def new_seed() -> int:
    """A seed that was not used before, in all likelihood."""
    return secrets.randbits(31)


def _partner(target: TransformersTarget, tokenizer: Any) -> Partner:
    vocab = getattr(tokenizer, "get_vocab", None)
    return Partner(None if vocab is None else vocab(), target.vocab_size, target.context_limit)


def _end_tokens(tokenizer: Any) -> frozenset[int]:
    ids = getattr(tokenizer, "eos_token_id", None)
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)
