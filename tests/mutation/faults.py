"""Faults that the tests must notice, each with the tests that are to fail with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One small change that makes the code wrong.

    name: what is wrong, in words. file: path from the root. before: text that stands there exactly
    once; after: what the fault puts in its place. tests: files or tests for pytest, one of which
    must fail. native: whether the library must be built for it.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    native: bool = False

    def applied(self, text: str) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: where `before` does not stand there exactly once.
        """
        count = text.count(self.before)
        if count != 1:
            raise ValueError(f"{self.file} holds {self.before!r} {count} times; mend the fault")
        return text.replace(self.before, self.after)


_LAW = "src/draftwood/sampling/law.py"
_GREEDY = "src/draftwood/verify/greedy.py"
_LOSSY = "src/draftwood/verify/lossy.py"
_LAWS = "src/draftwood/verify/laws.py"
_STOP = "src/draftwood/text/stop.py"
_STREAM = "src/draftwood/text/stream.py"
_DETOKENIZER = "src/draftwood/text/detokenizer.py"
_DECODING = "src/draftwood/text/decoding.py"
_DECODE = "src/draftwood/decode.py"
_CONFIG = "src/draftwood/targets/transformers/generation_config.py"

_SAMPLING = ("tests/unit/test_sampling.py",)
_EXACT = ("tests/property/test_exact_sampled.py",)
_TEXT = ("tests/unit/test_text.py",)
_DECODERS = ("tests/property/test_decoders.py",)
_CONFIGS = ("tests/unit/test_generation_config.py",)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "the cache forgets one row where several kept nodes have moved",
        "src/draftwood/targets/transformers/cache.py",
        "layer.keep(length + moved, index)",
        "layer.keep(length + moved - (moved > 1), index)",
        ("tests/unit/test_transformers_cache.py",),
    ),
    Fault(
        "recycled logits are looked up in any namespace",
        "src/draftwood/index/recycled.py",
        "if self._pairs[slot] != pair or self._spaces[slot] != space:",
        "if self._pairs[slot] != pair:",
        ("tests/unit/test_recycled.py",),
    ),
    Fault(
        "an unfinished character is two marks long at most",
        _DETOKENIZER,
        "LONGEST_HALF: Final = 3",
        "LONGEST_HALF: Final = 2",
        _TEXT,
    ),
    Fault(
        "sampled drafts are cut by nodes",
        "src/draftwood/budget/cut.py",
        "return Ranked(keys, gains, order, levels=True)",
        "return Ranked(keys, gains, order)",
        ("tests/unit/test_budget_spending.py",),
    ),
    Fault(
        "a history does not grow where a call serves several streams",
        "src/draftwood/drafters/suffix.py",
        "            self.history.grow(len(flat))\n",
        "            pass\n",
        ("tests/unit/test_suffix_drafter.py",),
    ),
    Fault(
        "a draft may fill the whole room",
        _DECODE,
        "limits.append(room - 1)",
        "limits.append(room)",
        ("tests/unit/test_decode.py",),
    ),
    Fault(
        "the pass that computes the prompt is timed",
        _DECODE,
        "timed = seconds.total - seconds.draft if generated else None",
        "timed = seconds.total - seconds.draft",
        ("tests/unit/test_decode.py",),
    ),
    Fault(
        "saved seconds have the other sign",
        "src/draftwood/stats.py",
        "return self.priced_seconds + unpriced * mean - self.later_seconds",
        "return self.later_seconds - self.priced_seconds - unpriced * mean",
        ("tests/unit/test_stats.py", "tests/unit/test_decode.py"),
    ),
    Fault(
        "a learned tau learns from the drafts of both drafters",
        "src/draftwood/drafters/mix/hybrid.py",
        "        if self._from_other:\n            self._drafter.learn",
        "        if True:\n            self._drafter.learn",
        ("tests/unit/test_hybrid.py",),
    ),
    Fault("top-p keeps what it may leave out", _LAW, "share <= 1 -", "share < 1 -", _SAMPLING),
    Fault(
        "a history forgets at its limit, not beyond it",
        "src/draftwood/index/suffix_history.py",
        "self._finished_tokens > limits.tokens",
        "self._finished_tokens >= limits.tokens",
        ("tests/unit/test_suffix_drafter.py",),
    ),
    Fault(
        "the penalty reaches for an id that has no logit",
        _LAW,
        "seen[seen < len(scores)]",
        "seen[seen <= len(scores)]",
        _SAMPLING,
    ),
    Fault(
        "a draft may be read from what the ring is about to overwrite",
        "native/src/recall_request.cpp",
        "history.ring.capacity - history.margin())",
        "history.ring.capacity)",
        ("tests/unit/test_recall.py", "tests/property/test_recall.py"),
        native=True,
    ),
    Fault("processors are skipped", _LAW, "process(self.processors, seen, scores)", "scores",
          _SAMPLING),
    Fault("processors see the context without the path", _GREEDY,
          "law.likeliest(rows.logits(row), seen(rows, accepted))",
          "law.likeliest(rows.logits(row), rows.context)", ("tests/unit/test_greedy.py",)),
    Fault("warpers come at temperature 0, too", _LAW,
          "        if self.greedy:\n            one_hot",
          "        if self.greedy and not self.warpers:\n            one_hot", _SAMPLING),
    Fault("warpers see what was left out", _LAW, "            scores[weights == 0] = -np.inf\n", "",
          _SAMPLING),
    Fault("top-k keeps one token less", _LAW,
          "np.partition(scores, -self.top_k)[-self.top_k]",
          "np.partition(scores, -self.top_k)[1 - self.top_k]", _SAMPLING),
    Fault("min-p leaves out equals", _LAW, "weights[weights < self.min_p]",
          "weights[weights <= self.min_p]", _SAMPLING),
    Fault("tiny temperatures overflow", _LAW, "            scores = scores - highest\n",
          "            pass\n", _SAMPLING),
    Fault("a row of NaN is greedy text", _GREEDY, "if token == NOT_A_NUMBER:", "if False:",
          ("tests/unit/test_greedy.py",)),
    Fault("top_k is 40 where nobody names one", _CONFIG, 'self._or("top_k", 50)',
          'self._or("top_k", 40)', _CONFIGS),
    Fault("min_new_tokens leaves min_length as it is", _CONFIG,
          "config.min_length = len(prompt) + config.min_new_tokens",
          "pass", _CONFIGS),
    Fault("the config's penalty counts twice", _CONFIG,
          "replace(law, repetition_penalty=1.0, processors",
          "replace(law, processors", _CONFIGS),
    Fault("forced end tokens come one token late", _CONFIG,
          "config.max_length = len(prompt) + max_tokens",
          "config.max_length = len(prompt) + max_tokens + 1", _CONFIGS),
    Fault("do_sample is ignored", _CONFIG, "if config.do_sample else 0.0", "if False else 0.0",
          _CONFIGS),
    Fault("stop tokens of the caller are ignored", _STOP, " or token in self.stop_token_ids", "",
          ("tests/unit/test_stop.py",)),
    Fault("an end token is cut off", _STOP, "keep, finish = at + 1, \"stop\"",
          "keep, finish = at, \"stop\"", ("tests/unit/test_stop.py",)),
    Fault("bytes are shown before their run ends", _DETOKENIZER,
          "elif kind == BYTE and self._run is None:", "elif False:", _DECODERS),
    Fault("the last token's text is taken for certain", _DECODING,
          'self.last_token |= kind == "BPEDecoder"', "pass", _DECODERS),
    Fault("half a replacement is shown", _DECODING, "+ len(old) - 1", "", _DECODERS),
    Fault("special tokens are not looked at for stop strings", _STREAM,
          "        if self._marks:\n            marked, seen = self._marked(text)",
          "        if False:\n            marked, seen = self._marked(text)", _TEXT),
    Fault("the beginning of a stop string is shown", _STREAM,
          "min(len(text), len(stop) - 1)", "min(len(text), len(stop) - 2)", _TEXT),
    Fault("the last of several stop strings cuts", _STREAM, "return min(found, default=None)",
          "return max(found, default=None)", _TEXT),
    Fault("an id beyond the vocabulary is looked up", _LOSSY,
          "return 0 <= token < len(p) and accepts(p, token)", "return accepts(p, token)",
          ("tests/unit/test_lossy.py",)),
    Fault("the residual forgets what was taken", _LAWS, "left = np.maximum(p - taken, 0)",
          "left = np.maximum(p, 0)", _EXACT),
    Fault("a refused sibling leaves p as it was", "src/draftwood/verify/rejection.py",
          "        p = residual(p, q)\n", "        pass\n", _EXACT),
    Fault("a block is kept too readily", "src/draftwood/verify/block.py",
          "return left / (left + (1 - weight)) if weight < 1 else 1",
          "return left / (left + (1 - weight) / 2) if weight < 1 else 1", _EXACT),
    Fault("traversal forgets the weight of a parent", "src/draftwood/verify/traversal.py",
          "weight = min(1, here.weight * p[tokens[child]] / q[tokens[child]])",
          "weight = min(1, p[tokens[child]] / q[tokens[child]])", _EXACT),
    Fault("noise does not depend on the position", "src/draftwood/verify/gumbel.py",
          "return _uniform(np.uint64(_mix(self._key + (position + 1) * GAMMA)), tokens)",
          "return _uniform(np.uint64(_mix(self._key + GAMMA)), tokens)",
          ("tests/unit/test_gumbel.py",)),
)  # fmt: skip
