"""A model, its tokenizer and a drafter together: text from prompts, one or many."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from threading import Event
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from draftwood.budget.spender import Spender
from draftwood.draft import Budget, TokenIds, as_tokens
from draftwood.fork import fork_lock
from draftwood.language_model.calls import GenerationCall
from draftwood.language_model.drafting import Drafters, Drafting
from draftwood.language_model.generation import Generated, Generation, Run, raise_failure
from draftwood.language_model.option_checks import Cost
from draftwood.language_model.options import BatchOptions, Options, Settings, takes
from draftwood.language_model.progress import progress_bar
from draftwood.language_model.prompts import Prompt, PromptEncoder, Prompts, is_several
from draftwood.language_model.running import alone, together
from draftwood.language_model.streams import AsyncGenerationStream, GenerationStream, in_thread
from draftwood.language_model.text_batch import TextBatch
from draftwood.language_model.tokenizers import end_tokens_of, target_info_of
from draftwood.protocols import Drafter
from draftwood.sampling.law import Sampling
from draftwood.share import Replica, ShareOptions
from draftwood.share.replica import join
from draftwood.stats import Stats
from draftwood.step import Step
from draftwood.targets.transformers.generation_config import GenerationSettings
from draftwood.text.decoding import Decoding

if TYPE_CHECKING:
    from draftwood.targets.engine_model import LoadedTarget


class LanguageModel:
    """A model, its tokenizer and a drafter that learns from whatever is generated.

    Several threads and tasks may generate at once where the drafter and the model allow it. `stats`
    counts all that was generated, unfinished texts included. `close`, or the end of a `with` block,
    closes the drafter's files and frees the model.

    tokenizer: of the transformers library, or with the same methods. drafter: a spec, a drafter of
    your own, or a `Drafters` object, which then decides cost, budget and noise lookahead itself.
    cost: what a drafted token costs where the spec does not say: "auto" (measured), a part of a
    plain step, or None: drafts are not cut to what pays. budget: the most a draft may hold (None:
    64 nodes), or a spender of your own, such as `Spending`. end_tokens: ids that end a text; None:
    those that the model's generation config names, else the tokenizer's. noise_lookahead: at
    temperature > 0, let drafts look up the noise of the seed while that pays (`NoiseLookahead`); in
    batches only where no part of the drafter serves many streams in one call. name: what `repr`
    calls the model. share: the URL of a log, or `ShareOptions`: replicas draft from one another's
    texts (docs/sharing.md); the drafter has Recall as a part.
    """

    def __init__(
        self,
        target: LoadedTarget,
        tokenizer: Any,
        drafter: str | Drafter | Drafters,
        *,
        cost: Cost = None,
        budget: Budget | Spender | None = None,
        end_tokens: Collection[int] | None = None,
        noise_lookahead: bool = True,
        name: str | None = None,
        share: ShareOptions | str | Mapping[str, Any] | None = None,
    ) -> None:
        self.target = target
        self.tokenizer = tokenizer
        self.prompts = PromptEncoder(tokenizer, target.vocab_size)
        self.decoding = Decoding.of(tokenizer)
        self.name = type(target.model).__name__ if name is None else name
        if not isinstance(drafter, Drafters):
            drafter = Drafters(drafter, cost=cost, budget=budget, noise_lookahead=noise_lookahead)
        self.drafters = drafter
        info = target_info_of(target, tokenizer)
        self.drafters.pair(info)
        self.replica: Replica | None = None
        if share is not None:
            self.replica = join(ShareOptions.of(share), drafter.default, info, model=self.name)
        self.stats = Stats()
        self.own = GenerationSettings(target.model)
        self._end_tokens = end_tokens
        self.own.check(self.end_tokens)
        self._stats_lock = fork_lock()

    @property
    def end_tokens(self) -> Collection[int]:
        """The ids that end a text, after which nothing is generated."""
        own = self.own.end_tokens if self._end_tokens is None else self._end_tokens
        return end_tokens_of(self.tokenizer) if own is None else own

    @end_tokens.setter
    def end_tokens(self, ids: Collection[int] | None) -> None:
        self._end_tokens = ids

    @property
    def drafter(self) -> Drafter:
        """The drafter of calls that name none."""
        return self.drafters.default

    @property
    def budget(self) -> Budget | Spender | None:
        """Of calls that name no drafter: the largest draft, or the spender that cuts drafts."""
        return self.drafters.choose().budget

    @overload
    def generate(
        self, prompt: Prompt, *, n: None = None, **options: Unpack[BatchOptions]
    ) -> Generation: ...

    @overload
    def generate(
        self, prompt: Prompt, *, n: int, **options: Unpack[BatchOptions]
    ) -> list[Generation]: ...

    @overload
    def generate(
        self, prompt: Prompts, *, n: None = None, **options: Unpack[BatchOptions]
    ) -> list[Generation]: ...

    @overload
    def generate(
        self, prompt: Prompts, *, n: int, **options: Unpack[BatchOptions]
    ) -> list[list[Generation]]: ...

    @takes(BatchOptions)
    def generate(self, prompt: Prompt | Prompts, **options: Any) -> Generated:
        """Generate to the end.

        One prompt gives a `Generation`, a list of prompts a list in the same order; with `n`, each
        prompt gives a list of `n`. The options are explained at `draftwood.Options`.

        Several texts are generated together, `max_batch` at once, with the same result as one by
        one; text number i of all (from 0) uses `seed` + i. Caches then hold up to 2 * (longest
        prompt + text + draft) tokens for each of the `max_batch`, at 2 * layers * key-value heads *
        head size numbers a token (`TransformersBatch` has it all).

        Raises:
            InvalidTokens: for an empty prompt, or token ids that the model does not have.
            InvalidOption: for an option of a wrong type or outside its range.
            ContextTooLong: for a prompt that leaves no room in the model's context. These three
                are raised before anything is generated.
            GenerationFailed: where one of several texts fails while it is generated; it holds the
                finished ones. `errors="return"` goes on with the others instead.
        """
        return self._generate(prompt, Settings.of(options), None)

    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: None = None, **options: Unpack[BatchOptions]
    ) -> Generation: ...

    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: int, **options: Unpack[BatchOptions]
    ) -> list[Generation]: ...

    @overload
    async def agenerate(
        self, prompt: Prompts, *, n: None = None, **options: Unpack[BatchOptions]
    ) -> list[Generation]: ...

    @overload
    async def agenerate(
        self, prompt: Prompts, *, n: int, **options: Unpack[BatchOptions]
    ) -> list[list[Generation]]: ...

    @takes(BatchOptions)
    async def agenerate(self, prompt: Prompt | Prompts, **options: Any) -> Generated:
        """`generate` for asyncio, in a thread.

        When the waiting task is canceled, it waits for the current step, and generation ends there.
        """
        settings, canceled = Settings.of(options), Event()
        return await in_thread(
            lambda: self._generate(prompt, settings, canceled), canceled=canceled.set
        )

    @takes(Options)
    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> GenerationStream:
        """The same text in pieces, as it comes.

        Iterate over the returned object; afterwards its `generation` holds finish reason, tokens
        and statistics. Raises what `generate` raises.
        """
        settings = Settings.of(options, several=False)
        call = self._call(settings)
        run = call.run(call.encoded(prompt))
        return GenerationStream(run, self._counted(run, call.drafting))

    @takes(Options)
    def astream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncGenerationStream:
        """`stream` for `async for`; each step runs in a thread."""
        return AsyncGenerationStream(self.stream(prompt, **options))

    def batch(self, *, max_batch: int = 8) -> TextBatch:
        """Continuous batching: texts that join and leave while others are generated.

        max_batch: texts that share a pass, at most; the others wait. Close it after use.

        Raises:
            InvalidOption: for a batch below one text.
        """
        drafting = self.drafters.choose()

        def prepare(prompt: Any, settings: Settings) -> Run:
            return self._call(settings).joining(prompt, drafting)

        return TextBatch(self.target, drafting, prepare, self._count, max_batch=max_batch)

    def encode(
        self,
        prompt: Prompt,
        *,
        chat: bool | None = None,
        tools: Sequence[Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> TokenIds:
        """The token ids of a prompt.

        chat: whether text is put into the chat template; None: where there is one. tools,
        chat_template_kwargs: passed on to the template.

        Raises:
            InvalidTokens: for ids that the model does not have.
            InvalidOption: for an object of another type, and for chat turns or tools where the
                model has no chat template or its template refuses them.
        """
        return self.prompts.encode(
            prompt, chat=chat, tools=tools, chat_template_kwargs=chat_template_kwargs
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids (a list or an array), without special tokens."""
        return self.decoding.decode(list(ids))

    def sampling(
        self, options: Options, prompt: TokenIds | None = None, max_tokens: int | None = 256
    ) -> Sampling:
        """How tokens are sampled: a call's options, completed by the model's generation config.

        prompt, max_tokens: of the text; some keys of the generation config depend on them.

        Raises:
            InvalidOption: as `generate` does for these options.
        """
        ids = as_tokens([0]) if prompt is None else prompt
        return self._call(Settings.of(options)).sampling(ids, max_tokens)

    def close(self) -> None:
        """Close the drafters and the target, with files and locks; the model is not used again."""
        with ExitStack() as closing_all:
            closing_all.callback(self.target.close)
            closing_all.callback(self.drafters.close)
            if self.replica is not None:
                closing_all.callback(self.replica.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        cost = self.drafters.default_cost
        return f"LanguageModel({self.name}, drafter={self.drafters.name}, cost={cost!r})"

    def _generate(self, prompt: Any, settings: Settings, canceled: Event | None) -> Generated:
        """`generate` with checked options; once `canceled` is set it ends with what there is."""
        several, count = is_several(prompt), settings.n or 1
        done = self._texts(list(prompt) if several else [prompt], count, settings, canceled)
        if settings.n is None:
            return done if several else done[0]
        each = [done[at : at + count] for at in range(0, len(done), count)]
        return each if several else each[0]

    def _texts(
        self, prompts: Sequence[Any], count: int, settings: Settings, canceled: Event | None
    ) -> list[Generation]:
        """`count` texts of each prompt, in order."""
        call = self._call(settings)
        texts = call.texts(prompts, count)
        runs = [each for each in texts if isinstance(each, Run)]
        self._finish(runs, len(texts), settings, call.drafting, canceled)
        done = [each if isinstance(each, Generation) else each.generation() for each in texts]
        if settings.errors == "raise":
            raise_failure(done)
        return done

    def _finish(
        self,
        runs: Sequence[Run],
        total: int,
        settings: Settings,
        drafting: Drafting,
        canceled: Event | None,
    ) -> None:
        """Generate all texts; an error ends its own text, or, with errors="raise", all."""
        if not runs:
            return
        size = min(settings.max_batch, len(runs))
        left = len(runs)
        with (
            progress_bar(total, shown=settings.progress) as advance,
            closing(together(self.target, runs, size, drafting)) as steps,
        ):
            advance(total - left)
            for number, step in steps:
                run = runs[number]
                if isinstance(step, Exception):
                    run.fail(step)
                else:
                    self._count(run, step, drafting.plain_seconds(min(size, left)))
                if run.ended:
                    left -= 1
                    advance(1)
                if run.error is not None and settings.errors == "raise":
                    return
                if canceled is not None and canceled.is_set():
                    return

    def _counted(self, run: Run, drafting: Drafting) -> Generator[Step, None, None]:
        """The same, entered into all figures."""
        with closing(alone(self.target, run, drafting)) as steps:
            for step in steps:
                self._count(run, step, drafting.plain_seconds())
                yield step

    def _count(self, run: Run, step: Step, plain: float | None) -> None:
        """Enter a step into the figures of its text and of the model. plain: see `Stats.add`."""
        with self._stats_lock:
            self.stats.add(step, first=run.first, plain=plain)
        run.take(step, plain)

    def _call(self, settings: Settings) -> GenerationCall:
        drafting = self.drafters.choose(settings.drafter, cost=settings.cost, nodes=settings.nodes)
        return GenerationCall(
            self.target,
            self.prompts,
            self.decoding,
            self.own,
            self.end_tokens,
            settings,
            drafting,
        )
