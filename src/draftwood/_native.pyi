"""
Indexes over token sequences, in C++. Use them through draftwood.index.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy
import numpy.typing
from numpy.typing import NDArray


class Decoder:
    """A model's layers over few rows, in float32 on a CPU."""

    def __init__(self, *, hidden: int, heads: int, groups: int, size: int, inner: int, scale: float, gelu: bool) -> None: ...

    def add(self, *, kind: int, before: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None, heads_in: Sequence[tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None]], heads_out: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None], attended: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None, between: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None, gate_up: Sequence[tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None]], down: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None], fed: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None, query: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None, key: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None) -> None:
        """
        Add a layer; weights are (weight, bias or None), norms (weight, epsilon) or None. Arrays are borrowed and kept alive. ValueError where shapes do not fit.
        """

    def run(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], turns: Sequence[tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]]], spans: Sequence[tuple[int, int, int, Sequence[Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)] | None]]], caches: Sequence[tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu')], Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu')]]], threads: int) -> None:
        """
        Pass x [rows, hidden] through all layers in place; the rows' keys and values are cached. turns: (cosine, sine) of each row by kind of layer. spans: (slot, rows, keys, masks by kind). caches: (keys, values) by layer.
        """

    def multiply(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], weight: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None], norm: tuple[Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], float] | None, y: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], threads: int) -> None:
        """y = norm(x) W^T + b for few rows; ValueError where shapes do not fit."""

def likeliest(logits: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], tokens: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu')], logprobs: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Writes each row's k likeliest tokens, the likeliest first, and their log-probabilities.
    """

def decoder_instructions() -> str:
    """The instructions that Decoder uses here: avx512, avx2 or any."""

def is_sound(tokens: object, parents: object, confidence: object, source: object, limit: int, sure: float) -> bool:
    """
    Whether arrays are a draft's: a tree of ids below limit; False: look why.
    """

class HistoryInfo:
    """What a history file's header says."""

    @property
    def major(self) -> int: ...

    @property
    def minor(self) -> int: ...

    @property
    def file_bytes(self) -> int: ...

    @property
    def sequences(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def namespaces(self) -> int: ...

    @property
    def token_limit(self) -> int: ...

    @property
    def fingerprint(self) -> bytes: ...

class History:
    """
    A mapped history file. Arrays are borrowed from the mapping and keep it.
    """

    @staticmethod
    def open(path: bytes, check_tokens: bool, expected: bytes | None) -> History: ...

    def __len__(self) -> int: ...

    @property
    def info(self) -> HistoryInfo: ...

    @property
    def tokens(self) -> numpy.typing.NDArray[numpy.int32]: ...

    @property
    def offsets(self) -> numpy.typing.NDArray[numpy.uint64]: ...

    @property
    def times(self) -> numpy.typing.NDArray[numpy.int64]: ...

    @property
    def namespace_ids(self) -> numpy.typing.NDArray[numpy.uint32]: ...

    def sequence(self, i: int) -> numpy.typing.NDArray[numpy.int32]: ...

    def metadata(self, i: int) -> bytes: ...

    def namespace_name(self, i: int) -> bytes: ...

def read_history_info(path: bytes) -> HistoryInfo: ...

class HistoryWriter:
    """Writes a history beside its path, then renames."""

    def __init__(self, path: bytes, fingerprint: bytes) -> None: ...

    def add(self, tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], namespace: bytes, time: int, metadata: bytes) -> None: ...

    def finish(self) -> HistoryInfo: ...

    def abandon(self) -> None: ...

    @property
    def sequences(self) -> int: ...

    @property
    def tokens(self) -> int: ...

class Replacement:
    """A file that takes another's place when complete."""

    def __init__(self, path: bytes) -> None: ...

    def fileno(self) -> int:
        """To write to; -1 when it is not open."""

    def commit(self) -> None:
        """Put everything on disk, then give the file its name."""

    def abandon(self) -> None:
        """Remove the file; nothing happens after commit."""

NO_TIME: int = -9223372036854775808

class Draft:
    """
    What an index proposes: a token tree in flat arrays of n nodes, parents first.
    """

    @property
    def tokens(self) -> Annotated[NDArray[numpy.int32], dict(shape=(None,))]:
        """int32 [n]"""

    @property
    def parents(self) -> Annotated[NDArray[numpy.int32], dict(shape=(None,))]:
        """int32 [n]; -1 or an earlier node"""

    @property
    def confidence(self) -> Annotated[NDArray[numpy.float32], dict(shape=(None,))]:
        """float32 [n]; P(accepted | parent accepted)"""

    @property
    def probability(self) -> Annotated[NDArray[numpy.float32], dict(shape=(None,))]:
        """float32 [n]; P(accepted)"""

    @property
    def score(self) -> float:
        """Sum of `probability`: expected accepted tokens"""

    @property
    def match(self) -> int:
        """Tokens of context that the draft continues"""

    def __len__(self) -> int: ...

class SuffixDraft(Draft):
    """A draft and where it was found."""

    def __init__(self) -> None:
        """The empty draft."""

    @property
    def witness(self) -> int:
        """A sequence that says it; -1: none that is left"""

    @property
    def shared(self) -> bool:
        """Whether it is from the tree of all requests"""

class SuffixPolicy:
    """How a context is continued."""

    def __init__(self, *, alpha: float, offset: float, floor: float, tree: bool, paper: bool, witness: bool) -> None: ...

class SuffixTree:
    """Counts every suffix of every sequence, cut at `depth` tokens."""

    def __init__(self, depth: int) -> None: ...

    def begin(self) -> int:
        """Open an empty sequence; returns its number."""

    def extend(self, sequence: int, tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """Append tokens (int32, contiguous) to a sequence."""

    def finish(self, sequence: int) -> None:
        """Give back what only a growing sequence needs."""

    def compact(self, work: int) -> bool:
        """
        Look at about so many records to give memory back; True where nothing is left to do.
        """

    def remove(self, sequence: int) -> None:
        """Take a sequence out."""

    def evict(self, sequence: int, work: int) -> bool:
        """Take about `work` suffixes of a sequence out; True when all are."""

    def speculate(self, context: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], policy: SuffixPolicy, nodes: int, reach: int) -> SuffixDraft:
        """
        The draft of the highest score over all suffixes of a context (int32, contiguous).
        """

    def count(self, pattern: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> int:
        """How many suffixes begin with a pattern (int32, contiguous)."""

    def extents(self) -> Annotated[NDArray[numpy.int64], dict(shape=(None,))]:
        """int64 [2 n]: each sequence and how many tokens it has, at one instant."""

    def text(self, sequence: int, most: int) -> Annotated[NDArray[numpy.int32], dict(shape=(None,))]:
        """The first tokens of a sequence, at most so many: int32 [n]."""

    def check(self) -> str:
        """
        Walk the whole tree; empty where its invariants hold, else what does not.
        """

    @property
    def depth(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def sequences(self) -> int: ...

    @property
    def nodes(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def idle(self) -> int: ...

class ThreadPool:
    """Threads that work on a batch."""

    def __init__(self, threads: int) -> None: ...

    @property
    def threads(self) -> int: ...

class SuffixStream:
    """One request: its own tree, and its place in the shared one."""

    def __init__(self, shared: SuffixTree, prompt: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], policy: SuffixPolicy, predictions: list[Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]]) -> None: ...

    def propose(self, nodes: int, reach: int, floor: float) -> tuple[Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.float32], dict(shape=(None,))], Annotated[NDArray[numpy.uint8], dict(shape=(None,))], int] | None:
        """
        The better of the two trees' drafts as tokens, parents, confidence, source [n] and its witness; None where both are empty.
        """

    def guess(self, nodes: int, reach: int, floor: float) -> SuffixDraft:
        """The better of the two trees' drafts."""

    def observe(self, tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """Move past what was generated (int32, contiguous)."""

    def close(self) -> None:
        """Drop the own tree; the output stays shared."""

    @property
    def sequence(self) -> int: ...

    @property
    def generated(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

def suffix_propose_all(streams: list[SuffixStream], nodes: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], reach: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], floors: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], pool: ThreadPool) -> list[tuple[Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.float32], dict(shape=(None,))], Annotated[NDArray[numpy.uint8], dict(shape=(None,))], int] | None]:
    """What `propose` gives for each stream: one call, many threads."""

def suffix_observe_all(streams: list[SuffixStream], tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], offsets: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], pool: ThreadPool) -> None:
    """Move streams past their tokens, which stand end to end."""

class RecallDraft(Draft):
    """A draft and where its nodes were found."""

    @property
    def sources(self) -> Annotated[NDArray[numpy.uint8], dict(shape=(None,))]:
        """
        uint8 [n]; 0: the request's own text, 1: shared history, 2: a prediction, 9: the target's own rows
        """

class Recall:
    """History that requests share: a ring of tokens."""

    def __init__(self, max_tokens: int, seed: int = 0, quota: int = 0) -> None: ...

    @staticmethod
    def open(path: bytes, write: bool, max_tokens: int, fingerprint: object | None, seed: int = 0, quota: int = 0) -> Recall: ...

    def begin(self) -> int:
        """A name for a sequence that is to be added."""

    def add(self, sequence: int, name: int, context: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """Add tokens to a sequence, behind context that is not drafted."""

    def remove(self, sequence: int) -> int:
        """Blank a sequence; returns how many tokens that were."""

    def remove_namespace(self, name: int) -> int:
        """Blank a namespace; returns how many tokens that were."""

    def flush(self) -> None:
        """Hand what was written to the disk."""

    def held(self, name: int) -> int:
        """Slots in blocks of a namespace."""

    @property
    def capacity(self) -> int: ...

    @property
    def written(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def writable(self) -> bool: ...

    @property
    def clean(self) -> bool: ...

class TokenTexts:
    """The bytes that token ids stand for."""

    def __init__(self, names: bytes, ids: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """Tokens as the vocabulary writes them, each ended by 0."""

    def of(self, token: int) -> bytes:
        """The bytes of a token; none: a special one, or not known."""

    def token(self, text: bytes) -> int:
        """The token of a text; -1: there is none."""

    @property
    def nbytes(self) -> int: ...

class RecallRequest:
    """One request: its own ring and its drafts."""

    def __init__(self, shared: Recall, prompt: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], *, name: int, chain: bool, floor: float, share: int, predictions: Sequence[Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]], texts: TokenTexts | None = None) -> None: ...

    def propose(self, nodes: int, reach: int, floor: float = 0.0) -> RecallDraft:
        """
        At most `nodes` nodes, no path longer than `reach`, none less likely than `floor`.
        """

    def observe(self, tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """Move past tokens and learn from them."""

    def keep_rows(self, tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], parents: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], likely: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', writable=False)], logprobs: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]) -> None:
        """
        Keep the target's k likeliest tokens after the context and each node of a draft.
        """

    def close(self) -> None:
        """Share what is left; give the memory back."""

    def abandon(self) -> None:
        """Give the memory back; share nothing more."""

    @property
    def length(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def sequence(self) -> int: ...

def propose_all(streams: list[RecallRequest], nodes: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], reach: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], floor: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], threads: int) -> tuple[Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.int32], dict(shape=(None,))], Annotated[NDArray[numpy.float32], dict(shape=(None,))], Annotated[NDArray[numpy.uint8], dict(shape=(None,))], Annotated[NDArray[numpy.int64], dict(shape=(None,))]]:
    """
    Drafts of many streams, end to end: tokens, parents, confidence, sources, offsets [n + 1].
    """

def observe_all(streams: list[RecallRequest], tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], offsets: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], threads: int) -> None:
    """Move many streams past their tokens, which stand end to end."""

class Sequences:
    """Texts of sequences that an engine decodes."""

    def __init__(self, vocab_size: int, context_limit: int) -> None: ...

    def open(self, text: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], request: RecallRequest | None) -> int:
        """A slot for a sequence that stands after text."""

    def close(self, slot: int) -> None: ...

    def mute(self, slot: int) -> None:
        """Draft no more for the sequence."""

    def length(self, slot: int) -> int: ...

    def end(self, slot: int, count: int) -> Annotated[NDArray[numpy.int32], dict(shape=(None,))]:
        """int32: the last tokens of the text."""

    def step(self, slots: list[int], rows: list[Any], whole: bool, rooms: Sequence[int], nodes: int, depth: int, floor: float, chain: bool, threads: int, rises: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None, discounts: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None) -> tuple[Any, ...]:
        """
        Move, draft and cut: tokens, parents, confidence, sources, offsets, last, came, faults.
        """

    def step_matrix(self, slots: list[int], matrix: Annotated[NDArray[numpy.int32], dict(shape=(None, None), device='cpu', writable=False)], starts: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None, ends: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], rooms: Sequence[int], nodes: int, depth: int, floor: float, chain: bool, threads: int, rises: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None, discounts: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu', writable=False)] | None) -> tuple[Any, ...]:
        """
        The same for rows of a matrix; without starts the rows are whole texts.
        """

    def recognize(self, rows: list[Any], leap: int, patience: int) -> tuple[list[int], list[int]]:
        """Slots that rows continue (-1: none); slots long missed."""

    def recognize_matrix(self, matrix: Annotated[NDArray[numpy.int32], dict(shape=(None, None), device='cpu', writable=False)], ends: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], leap: int, patience: int) -> tuple[list[int], list[int]]: ...

    def hand_out(self, drafted: int, accepted: int) -> None:
        """Count drafts that were made elsewhere."""

    @property
    def drafted(self) -> int: ...

    @property
    def accepted(self) -> int: ...

    @property
    def longest(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

def fill_tree_masks(parents: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], offsets: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], slots: int, root: bool, mask: Annotated[NDArray[numpy.bool_], dict(shape=(None, None, None), order='C', device='cpu')], depths: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Fill masks [rows, slots, slots] and depths [rows, slots] of trees that stand end to end.
    """
