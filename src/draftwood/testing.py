"""For tests of this package and of what is built on it: exact laws, toys, strategies.

Importing this module loads neither Hypothesis nor torch; what needs them imports them.

* `law_of` runs a program once for every outcome of its chance calls and returns the exact law of
  its result: how a lossless verifier is proved, not sampled.
* `ToyTarget` is a language model given as a function from a prefix to a row.
* `DraftFrom` is a drafter given as a function; `random_trees`, `oracle` and `raising` make some.
* `sampled_draft` draws a draft from a model, as rules that need proposal rows want it.
* `tokens`, `drafts`, `row_tables` are Hypothesis strategies.
* `tiny_model` is a seeded random model of a Hugging Face family; `save_tiny_model` a model folder.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Budget, Draft, TokenIds, as_tokens
from draftwood.protocols import Feedback, Top, Verdict
from draftwood.ranking import likeliest
from draftwood.sampling import Chance, Weights

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T", bound=Hashable)
Row = Callable[[tuple[int, ...]], Weights]
"""A language model: from a prefix to the row after it (logits, or exact weights)."""

WORDS: Final = ("a", "b", "c", "the", "cat", "dog", "sees", "and", ".", "select", "from", "table")
"""A vocabulary of 12 words: readable toys."""


class Branch:
    """A `Chance` that follows a script, and takes the first possible outcome beyond its end."""

    def __init__(self, script: Sequence[int]) -> None:
        self.probability = Fraction(1)
        self.taken: list[int] = []
        self.choices: list[list[int]] = []
        self._script = script

    def accept(self, probability: Any) -> bool:
        """Branch into yes and no."""
        yes = min(max(Fraction(probability), Fraction(0)), Fraction(1))
        return self.pick([1 - yes, yes]) == 1

    def pick(self, weights: Weights) -> int:
        """Branch into every index with a positive weight."""
        exact = [Fraction(weight) for weight in weights]
        if min(exact) < 0:
            raise ValueError(f"a weight is {min(exact)}; weights are not negative")
        possible = [index for index, weight in enumerate(exact) if weight]
        if not possible:
            raise ValueError(f"all {len(exact)} weights are 0; one must be positive")
        at = len(self.taken)
        index = self._script[at] if at < len(self._script) else possible[0]
        self.taken.append(index)
        self.choices.append(possible)
        self.probability *= exact[index] / sum(exact)
        return index


def law_of(program: Callable[[Chance], T]) -> dict[T, Fraction]:
    """The exact law of a program's result: every outcome that can happen, with its probability.

    The program runs once a branch; apart from its chance it must be deterministic.
    """
    law: dict[T, Fraction] = {}
    scripts: list[list[int]] = [[]]
    while scripts:
        script = scripts.pop()
        branch = Branch(script)
        outcome = program(branch)
        law[outcome] = law.get(outcome, Fraction(0)) + branch.probability
        for at in range(len(script), len(branch.taken)):
            taken, others = branch.taken[at], branch.choices[at]
            scripts += [[*branch.taken[:at], other] for other in others if other != taken]
    return law


class ToyTarget:
    """A target whose model is a function; `calls` counts its passes.

    row: from a prefix (a tuple of ids) to logits, or to exact weights for a law that takes them
    as they are. context_limit: as a model's context length, or None.
    """

    def __init__(self, row: Row, *, context_limit: int | None = None, trees: bool = True) -> None:
        self.row = row
        self.context_limit = context_limit
        self.trees = trees
        self.calls = 0

    def open(self, prompt: TokenIds) -> ToyCursor:
        """A cursor behind `prompt`."""
        return ToyCursor(self, prompt)


class ToyCursor:
    """One sequence in a `ToyTarget`."""

    def __init__(self, target: ToyTarget, prompt: TokenIds) -> None:
        self.context = as_tokens(prompt)
        self._target = target

    @property
    def room(self) -> int | None:
        """Tokens that still fit."""
        limit = self._target.context_limit
        return None if limit is None else limit - len(self.context)

    def score(self, draft: Draft) -> ToyRows:
        """Rows that call the model when they are asked for."""
        self._target.calls += 1
        return ToyRows(self._target.row, self.context, draft)

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Append what was generated."""
        self.context = np.concatenate((self.context, verdict.tokens(draft)))

    def close(self) -> None:
        """Nothing to give back."""


class ToyRows:
    """The rows of a toy: row 0 follows the context, row i + 1 node i of the draft."""

    def __init__(self, row: Row, context: TokenIds, draft: Draft) -> None:
        self.context = context
        self._row = row
        self._draft = draft

    def logits(self, row: int) -> NDArray[Any]:
        """[V]: what the model says after `row`, numbers of whatever kind it uses."""
        path = self._draft.tokens[self._draft.path(row - 1)]
        return np.asarray(self._row((*self.context.tolist(), *path.tolist())))

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the likeliest token of every row; ties go to the lowest id."""
        return as_tokens([int(np.argmax(self.logits(row))) for row in range(len(self._draft) + 1)])


def hash_model(vocab_size: int = len(WORDS), *, order: int = 3, seed: int = 0) -> Row:
    """A random language model: logits [V] drawn anew for each of the last `order` tokens."""

    def row(prefix: tuple[int, ...]) -> NDArray[np.float64]:
        return np.random.default_rng([seed, *prefix[-order:]]).normal(0, 2, vocab_size)

    return row


class ToyDraftModel:
    """A `DraftModel` from a function: log-softmax of `row(context and path)`; caches nothing.

    It refuses what a real one could not do: parents that are not there, `expand` before `root`.
    """

    def __init__(self, row: Row, vocab_size: int = len(WORDS)) -> None:
        self.row, self.vocab_size = row, vocab_size

    def open(self, prompt: TokenIds) -> ToyDraftSeat:
        """A seat behind `prompt`."""
        return ToyDraftSeat(self.row, tuple(prompt.tolist()))


class ToyDraftSeat:
    """One sequence of a ToyDraftModel. `rows` counts the nodes that were passed through it."""

    room: int | None = None

    def __init__(self, row: Row, context: tuple[int, ...]) -> None:
        self.context, self.passes, self.rows = context, 0, 0
        self._row = row
        self._nodes: list[tuple[int, ...]] = []
        self._ready = False

    def root(self) -> NDArray[np.float32]:
        """The row after the context."""
        self.passes += not self._ready
        self._ready = True
        return self._log_row(self.context)

    def expand(self, tokens: TokenIds, parents: NDArray[np.int32]) -> NDArray[np.float32]:
        """A row after each new node."""
        if not self._ready:
            raise ValueError("expand before root: the cache does not reach the context yet")
        known = len(self._nodes)
        for token, parent in zip(tokens.tolist(), parents.tolist(), strict=True):
            if not ROOT <= parent < known:
                raise ValueError(f"parent {parent} is not one of {known} nodes of earlier calls")
            above = self.context if parent == ROOT else self._nodes[parent]
            self._nodes.append((*above, token))
        self.passes += 1
        self.rows += len(tokens)
        return np.stack([self._log_row(path) for path in self._nodes[known:]])

    def root_top(self, k: int) -> Top:
        """The likeliest tokens after the context."""
        return likeliest(self.root()[None], k)

    def expand_top(self, tokens: TokenIds, parents: NDArray[np.int32], k: int) -> Top:
        """The likeliest tokens after each new node."""
        return likeliest(self.expand(tokens, parents), k)

    def keep(self, path: NDArray[np.int32], tokens: TokenIds) -> None:
        """Move on."""
        grown = (*self.context, *tokens.tolist())
        if len(path) and self._nodes[int(path[-1])] != grown[: len(self.context) + len(path)]:
            raise ValueError("the path does not hold the first of the tokens")
        self.context, self._nodes, self._ready = grown, [], False

    def close(self) -> None:
        """Nothing to give back."""

    def _log_row(self, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        row = np.asarray(self._row(prefix), dtype=np.float64)
        row -= row.max()
        return np.asarray(row - np.log(np.exp(row).sum()), dtype=np.float32)


def greedy_text(row: Row, prompt: Sequence[int], count: int) -> list[int]:
    """The `count` likeliest tokens after `prompt`, one after the other: what must come out."""
    prefix = list(prompt)
    for _ in range(count):
        prefix.append(int(np.argmax(np.asarray(row(tuple(prefix))))))
    return prefix[len(prompt) :]


class ByteTokenizer:
    """UTF-8 bytes as token ids, and one end token, which decodes to nothing."""

    vocab_size = 257
    end = 256

    def encode(self, text: str) -> list[int]:
        """The bytes of `text`."""
        return list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some bytes; what is no UTF-8 becomes U+FFFD."""
        return bytes(i for i in ids if i < self.end).decode(errors="replace")


class DraftFrom:
    """A drafter made of a function from (context, budget) to a draft; no learning, no state.

    memory: how many of the last tokens the function is given; None: all.
    """

    def __init__(
        self, propose: Callable[[TokenIds, Budget], Draft], *, memory: int | None = None
    ) -> None:
        self._propose = propose
        self._memory = memory

    def open(self, prompt: TokenIds, *, namespace: str = "") -> _FunctionStream:
        """A stream that remembers the tokens."""
        return _FunctionStream(self._propose, prompt, self._memory)


class _FunctionStream:
    def __init__(
        self, propose: Callable[[TokenIds, Budget], Draft], prompt: TokenIds, memory: int | None
    ) -> None:
        self._function = propose
        self._memory = memory
        self._context = prompt

    def propose(self, budget: Budget) -> Draft:
        start = 0 if self._memory is None else max(0, len(self._context) - self._memory)
        return self._function(self._context[start:], budget)

    def observe(self, feedback: Feedback) -> None:
        self._context = np.concatenate((self._context, feedback.tokens))

    def close(self) -> None:
        pass


def random_trees(vocab_size: int, *, seed: int = 0, chains: bool = False) -> DraftFrom:
    """Drafts without sense: random shape (often empty), random tokens, double children too."""
    random = np.random.default_rng(seed)

    def propose(context: TokenIds, budget: Budget) -> Draft:
        count = int(random.integers(0, budget.nodes + 1))
        tokens = random.integers(0, vocab_size, count)
        parents = [at - 1 if chains else int(random.integers(ROOT, at)) for at in range(count)]
        return Draft.tree(tokens, parents)

    return DraftFrom(propose)


def oracle(
    text: Sequence[int], *, vocab_size: int, decoys: int = 0, errors: float = 0.0, seed: int = 0
) -> DraftFrom:
    """Drafts of what will come, told in advance.

    text: the prompt and all that follows. decoys: wrong siblings at every level, before or behind
    the right token, some of them with children. errors: the share of levels whose right token is
    replaced by a wrong one.
    """
    random = np.random.default_rng(seed)

    def propose(context: TokenIds, budget: Budget) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        right = stray = ROOT
        for true in text[len(context) : len(context) + budget.reach]:
            if len(tokens) + decoys + 1 > budget.nodes:
                break
            place = int(random.integers(0, decoys + 1))
            below, above = right, stray
            for sibling in range(decoys + 1):
                wrong = (true + 1 + int(random.integers(0, vocab_size - 1))) % vocab_size
                keeps = sibling == place and random.random() >= errors
                tokens.append(true if keeps else wrong)
                lost = sibling != place and above != ROOT and random.random() < 0.5
                parents.append(above if lost else below)
                if sibling == place:
                    right = len(tokens) - 1
                else:
                    stray = len(tokens) - 1
        return Draft.tree(tokens, parents)

    return DraftFrom(propose)


def sampled_draft(
    chance: Chance,
    model: Row,
    context: TokenIds,
    parents: Sequence[int],
    draw: Callable[[Chance, Weights, Sequence[int]], int | None],
) -> Draft:
    """A draft of a given shape, its tokens drawn from a small model, with proposal rows.

    model: its rows are weights. parents: the shape. draw: how, from the functions of
    `draftwood.verify.drawing`; where it has no more siblings to give, the node is left out with
    all that hangs below it.
    """
    prefixes = {ROOT: tuple(context.tolist())}
    place = {ROOT: ROOT}
    siblings: dict[int, list[int]] = {}
    ids: list[int] = []
    kept: list[int] = []
    rows: list[Any] = []
    for node, parent in enumerate(parents):
        if parent not in place:
            continue
        q = np.asarray(model(prefixes[parent]))
        token = draw(chance, q, siblings.setdefault(parent, []))
        if token is None:
            continue
        siblings[parent].append(token)
        place[node] = len(ids)
        prefixes[node] = (*prefixes[parent], token)
        ids.append(token)
        kept.append(place[parent])
        rows.append(q)
    return Draft.tree(ids, kept, proposal=np.array(rows)) if ids else Draft.empty()


def raising(*, after: int = 0) -> DraftFrom:
    """A drafter that fails when it is asked for draft number `after` (from 0)."""
    asked = 0

    def propose(context: TokenIds, budget: Budget) -> Draft:
        nonlocal asked
        asked += 1
        if asked > after:
            raise RuntimeError(f"draft {asked - 1} fails, as this drafter was told to")
        return Draft.empty()

    return DraftFrom(propose)


def tokens(vocab_size: int, *, min_size: int = 0, max_size: int = 32) -> SearchStrategy[TokenIds]:
    """Strategy: int32 token ids."""
    from hypothesis import strategies as st

    ids = st.integers(0, vocab_size - 1)
    return st.lists(ids, min_size=min_size, max_size=max_size).map(as_tokens)


def drafts(
    vocab_size: int, *, max_nodes: int = 8, max_depth: int | None = None, distinct: bool = False
) -> SearchStrategy[Draft]:
    """Strategy: token trees of any shape, the empty one and chains included.

    distinct: no two children of a node hold the same token.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_tree(draw: Any) -> Draft:
        count = draw(st.integers(0, max_nodes))
        tree = Draft.tree(
            [draw(st.integers(0, vocab_size - 1)) for _ in range(count)],
            [draw(st.integers(ROOT, at - 1)) for at in range(count)],
        )
        if max_depth is not None:
            tree = tree.shallow(max_depth)
        return merge_doubles(tree) if distinct else tree

    return draw_tree()


def merge_doubles(draft: Draft) -> Draft:
    """The same paths, each of them once."""
    place = {ROOT: ROOT}
    children: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    parents: list[int] = []
    for node, (parent, token) in enumerate(
        zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
    ):
        key = (place[parent], token)
        if key not in children:
            children[key] = len(ids)
            ids.append(token)
            parents.append(key[0])
        place[node] = children[key]
    return Draft.tree(ids, parents)


def row_tables(vocab_size: int, *, max_rows: int = 13) -> SearchStrategy[Row]:
    """Strategy: models whose rows are exact probabilities (`Fraction`s that sum to 1, some 0).

    A model has up to `max_rows` rows; a prefix, read as a number, picks one of them.
    """
    from hypothesis import strategies as st

    counts = st.lists(st.integers(0, 5), min_size=vocab_size, max_size=vocab_size).filter(any)

    def model(table: list[list[int]]) -> Row:
        rows = [np.array([Fraction(n, sum(row)) for n in row], dtype=object) for row in table]

        def row(prefix: tuple[int, ...]) -> Weights:
            number = 0
            for token in prefix:
                number = number * vocab_size + token + 1
            return rows[number % len(rows)]

        return row

    return st.lists(counts, min_size=1, max_size=max_rows).map(model)


FAMILIES: Final = ("llama", "qwen2", "qwen3", "mistral", "gpt2", "gemma", "gemma2", "gemma3")
"""The families that `tiny_model` makes. Mistral, Gemma 2 and Gemma 3 slide over 24 tokens."""


def tiny_model(
    family: str, *, attention: str = "sdpa", vocab_size: int = 61, seed: int = 0, **overrides: Any
) -> Any:
    """A random-weight float32 model of a Hugging Face family, in evaluation mode.

    Its weights are large enough that greedy text wanders instead of repeating one token, and
    that the two likeliest tokens are far apart in float32. overrides: options of the config.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }
    if family != "gpt2":
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8}
    if family in ("mistral", "gemma2", "gemma3"):
        sizes |= {"sliding_window": 24}
    if family in ("gemma2", "gemma3"):
        sizes |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    ids = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": None}
    kind = "gemma3_text" if family == "gemma3" else family
    config = AutoConfig.for_model(
        kind, **{"vocab_size": vocab_size, "initializer_range": 0.6, **ids, **sizes, **overrides}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, dtype=torch.float32
    )
    return model.eval()


CHAT_TEMPLATE: Final = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"
)
"""The template of the chat models that `save_tiny_model` writes."""


def save_tiny_model(folder: str | Path, family: str = "llama", *, chat: bool = False) -> Path:
    """Write a tiny model with a byte-level tokenizer to `folder`; its end token is `<end>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    byte_characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(byte_characters)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    model = tiny_model(family, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return Path(folder)
