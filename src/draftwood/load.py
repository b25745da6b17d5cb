"""From names to objects: `load` a model with a drafter, `generate` or `stream` text.

llm = load("path/or/hub-id", drafter="suffix")
for piece in llm.stream("Rewrite this file ...", max_tokens=256):
    print(piece, end="", flush=True)
print(llm.stats)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from draftwood.decode import decode
from draftwood.draft import Budget, TokenIds, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.errors import (
    InvalidOption,
    InvalidTokens,
    MissingExtra,
    ModelNotFound,
    UnsupportedModel,
)
from draftwood.protocols import Drafter, Step, Verifier
from draftwood.sampling import Sampling, SeededChance
from draftwood.stats import Stats
from draftwood.stop import Stop
from draftwood.text import TextStream
from draftwood.verify.greedy import Greedy
from draftwood.verify.match import SampleAndMatch

if TYPE_CHECKING:
    from draftwood.targets.transformers import TransformersTarget

Message: TypeAlias = Mapping[str, Any]
"""One turn of a chat: {"role": "user", "content": "..."}."""

Prompt: TypeAlias = str | Sequence[Message] | Sequence[int] | NDArray[np.integer[Any]]
"""Text, the turns of a chat, or token ids."""


class Options(TypedDict, total=False):
    """How to generate; every option may be left out.

    max_tokens: 256; None: until the model ends. temperature: 0, which is greedy. top_k, top_p,
    min_p, repetition_penalty: as `Sampling` defines them; where one is left out, the model's own
    generation config decides. seed: of the draws at temperature > 0; left out, a new one is chosen.
    stop: strings that end the text, which ends before them. namespace: what is learned from this
    text is drafted only there. chat: whether a text prompt is put into the model's chat template;
    left out, it is where the model has one. on_step: called with each step.
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


def load(
    model: str | Path,
    drafter: str | Drafter = "suffix",
    *,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    budget: Budget | None = None,
) -> LanguageModel:
    """A causal language model from a folder or the Hugging Face Hub, with a drafter.

    drafter: a spec such as "suffix", "lookup:max_ngram=3" or "none", or a drafter of your own.
    device: "cpu", "cuda" or "cuda:1"; None: CUDA where there is one. dtype: "float32", "bfloat16",
    "float16" or "auto" (as stored); None: "auto" on CUDA, float32 on a CPU. attention: "sdpa" or
    "eager"; None: the model's choice. budget: the most a draft may hold; None: 64 nodes.

    Raises:
        InvalidSpec: for an unknown drafter or option.
        MissingExtra: where torch or transformers is not installed.
        ModelNotFound: for a path that holds no model, or a name that cannot be reached.
        UnsupportedModel: for a model whose drafts could not be verified exactly.
    """
    made = make_drafter(drafter) if isinstance(drafter, str) else drafter
    torch, transformers = _backend()
    place = _device(torch, device)
    number = _dtype(torch, dtype, place)
    name = _name_of(model)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            dtype=number,
            **({} if attention is None else {"attn_implementation": attention}),
        )
    except OSError as error:
        raise ModelNotFound(
            f"no model {name!r} can be loaded ({_first_line(error)}); give a folder with config, "
            "tokenizer and weights, or a Hub id that is cached or can be reached"
        ) from error
    except ValueError as error:
        raise UnsupportedModel(
            f"{name!r} does not load as a causal language model with its tokenizer "
            f"({_first_line(error)}); use a decoder-only model"
        ) from error
    from draftwood.targets.transformers import TransformersTarget

    target = TransformersTarget(network.to(place).eval())
    return LanguageModel(target, tokenizer, made, budget=budget)


class LanguageModel:
    """A model, its tokenizer and a drafter that learns from whatever is generated.

    Several threads may generate at once where the drafter and the model allow it. `stats` holds
    the figures of all that was generated, unfinished texts included.

    tokenizer: of the transformers library, or like one. end_tokens: ids that end a text; None:
    those that the model's generation config names, else the tokenizer's.
    """

    def __init__(
        self,
        target: TransformersTarget,
        tokenizer: Any,
        drafter: Drafter,
        *,
        budget: Budget | None = None,
        end_tokens: Collection[int] | None = None,
    ) -> None:
        self.target = target
        self.tokenizer = tokenizer
        self.drafter = drafter
        self.budget = budget
        self.stats = Stats()
        self.end_tokens = _end_tokens(target, tokenizer) if end_tokens is None else end_tokens
        self._stats_lock = Lock()

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Generation:
        """Generate to the end.

        Raises:
            InvalidTokens: for an empty prompt, or token ids that the model does not have.
            InvalidOption: for an option outside its range.
            ContextTooLong: for a prompt that leaves no room in the model's context.
        """
        run = _Run(self, prompt, options)
        text = "".join(run.pieces())
        tokens = np.concatenate([step.tokens for step in run.steps])
        finish = run.steps[-1].finish or "stop"
        return Generation(text, tokens, finish, Stats.of(run.steps), len(run.prompt), run.seed)

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

    def sampling(self, options: Options) -> Sampling:
        """The law that `options` ask for, completed by the model's generation config."""
        own = self.target.model.generation_config

        def value(name: str, otherwise: float) -> Any:
            for choice in (options.get(name), getattr(own, name, None)):
                if choice is not None:
                    return choice
            return otherwise

        return Sampling(
            temperature=options.get("temperature", 0.0),
            top_k=value("top_k", 0),
            top_p=value("top_p", 1.0),
            min_p=value("min_p", 0.0),
            repetition_penalty=value("repetition_penalty", 1.0),
        )

    def close(self) -> None:
        """End the drafter, where it can be ended; the model is not used again."""
        end = getattr(self.drafter, "close", None)
        if end is not None:
            end()

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Run:
    """One generation on its way: its settings are checked when it is made."""

    def __init__(self, model: LanguageModel, prompt: Prompt, options: Options) -> None:
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise InvalidOption(
                f"no option is named {min(unknown)!r}; choose from "
                + ", ".join(sorted(Options.__annotations__))
            )
        self.prompt = model.encode(prompt, chat=options.get("chat"))
        if not len(self.prompt):
            raise InvalidTokens("the prompt has 0 tokens; give at least one character")
        sampling = model.sampling(options)
        self.seed: int | None = None
        verifier: Verifier = Greedy(sampling)
        if not sampling.greedy:
            seed = options.get("seed")
            self.seed = new_seed() if seed is None else seed
            verifier = SampleAndMatch(SeededChance(self.seed), sampling)
        self.steps: list[Step] = []
        self._model = model
        self._on_step = options.get("on_step")
        self._text = TextStream(model.decode, options.get("stop", ()))
        self._decoding = decode(
            model.target,
            model.drafter,
            verifier,
            self.prompt,
            budget=model.budget,
            stop=Stop(options.get("max_tokens", 256), model.end_tokens, (self._text,)),
            namespace=options.get("namespace", ""),
        )

    def pieces(self) -> Iterator[str]:
        """The text after each step, pieces that may be empty."""
        for step in self._decoding:
            self.steps.append(step)
            with self._model._stats_lock:
                self._model.stats.add(step)
            if self._on_step is not None:
                self._on_step(step)
            yield self._text.take()
        yield self._text.finish()


def new_seed() -> int:
    """A seed that was not used before, in all likelihood."""
    return secrets.randbits(31)


def _backend() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra(
            f"running a model needs {error.name or 'torch'}, which is not installed; "
            "run: pip install 'draftwood[hf]'"
        ) from error
    return torch, transformers


def _name_of(model: str | Path) -> str:
    """The folder or Hub id, once it is sure that it is no mistyped path."""
    name = str(model)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFound(
                f"{name!r} holds no config.json; give the folder that `save_pretrained` wrote"
            )
        return str(path)
    looks_like_path = isinstance(model, Path) or name.startswith((".", "/", "~"))
    if looks_like_path or path.exists() or not name or name.count("/") > 1:
        raise ModelNotFound(f"{name!r} is no folder; give a model folder or a Hub id (owner/name)")
    return name


def _device(torch: Any, device: str | None) -> Any:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InvalidOption(f"no device is named {device!r}; use cpu, cuda or cuda:1") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InvalidOption(
            f"device {device!r} is not there, {torch.cuda.device_count()} CUDA devices are; use cpu"
        )
    return place


def _dtype(torch: Any, dtype: str | None, place: Any) -> Any:
    if dtype is None:
        dtype = "float32" if place.type == "cpu" else "auto"
    if dtype == "auto":
        return dtype
    if dtype not in ("float32", "bfloat16", "float16", "float64"):
        raise InvalidOption(f"dtype {dtype!r} is none; use float32, bfloat16, float16 or auto")
    return getattr(torch, dtype)


def _end_tokens(target: TransformersTarget, tokenizer: Any) -> frozenset[int]:
    ids = target.model.generation_config.eos_token_id
    if ids is None:
        ids = getattr(tokenizer, "eos_token_id", None)
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
