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

_CACHE = "src/draftwood/targets/transformers/cache.py"
_BATCH = "src/draftwood/targets/transformers/batch.py"
_ROWS = "src/draftwood/targets/transformers/rows.py"
_TREE_ROWS = "src/draftwood/targets/tree_rows.py"

_FOLLOWER = "native/src/prediction.cpp"
_MERGE = "native/src/prediction_merge.cpp"
_PREDICTED = ("tests/unit/test_predictions.py", "tests/property/test_prediction.py")

_SAMPLING = ("tests/unit/test_sampling.py",)
_EXACT = ("tests/property/test_exact_sampled.py",)
_TEXT = ("tests/unit/test_text.py",)
_DECODERS = ("tests/property/test_decoders.py",)
_CACHES = ("tests/unit/test_transformers_cache.py",)
_LEAN = ("tests/unit/test_lean_pass.py",)
_SEATS = (
    "tests/e2e/test_batch_equal_to_generate.py::"
    "test_rows_of_a_shared_pass_are_those_of_a_pass_of_ones_own",
    "tests/e2e/test_batch_equal_to_generate.py::"
    "test_a_seat_that_is_given_up_is_taken_by_another_sequence",
)
_CONFIGS = ("tests/unit/test_generation_config.py",)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "a suffix that is entered at once takes one token too many as known",
        "native/src/suffix_enter.cpp",
        "known_ = at > 0 ? at - 1 : 0;",
        "known_ = at;",
        ("tests/unit/test_suffix_tree.py",),
        native=True,
    ),
    Fault(
        "the boundary that moves with an end keeps its link",
        "native/src/suffix_enter.cpp",
        "if (made_ && at < tree_.depth) {",
        "if (made_ && at < tree_.depth && !ends_here) {",
        ("tests/unit/test_suffix_tree.py", "tests/property/test_suffix_tree.py"),
        native=True,
    ),
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
          "place = None if self._search is None else self._search.found()", "place = None", _TEXT),
    Fault("the prompt's end is not looked at for stop strings",
          "src/draftwood/text/stop_search.py", "max(0, len(prompt) - most)", "len(prompt)", _TEXT),
    Fault("a stop string of the prompt alone ends the text", "src/draftwood/text/stop_search.py",
          "max(0, earlier - len(stop) + 1)", "0", _TEXT),
    Fault("text is shown whose beginning in the prompt may stop it", _STREAM,
          "start = min(start, max(self._at(begun) - self._given, 0))", "pass", _TEXT),
    Fault("a run of bytes is decoded with each byte", _STREAM,
          "elif place is None and self._seen.found() is None:", "elif False:", _DECODERS),
    Fault("a window never begins among bytes that are no text", _DETOKENIZER,
          "(whole or self._long)", "whole", _DECODERS),
    Fault("time is not looked at", _STOP, "monotonic() >= self.until", "False",
          ("tests/unit/test_stop.py",)),
    Fault("a changed config is not checked again", _CONFIG,
          "_equal(self._checked, own)", "True", _CONFIGS),
    Fault("kept values stay where they were", _CACHE,
          "        self._values[:, :, length : self.length] = self._values.index_select(2, rows)\n",
          "", _CACHES),
    Fault("a buffer that grows loses its last row", _CACHE,
          "new[:, :, : self.length] = old[:, :, : self.length]",
          "new[:, :, : self.length - 1] = old[:, :, : self.length - 1]", _CACHES),
    Fault("rows are kept from one place further on", _CACHE,
          "rows[moved] == length + moved:", "rows[moved] >= length + moved:", _CACHES),
    Fault("rows of a batch are moved from the first sequence", _CACHE,
          "layer.keys[slots, :, places] = layer.keys[slots, :, sources]",
          "layer.keys[slots, :, places] = layer.keys[slots * 0, :, sources]", _CACHES),
    Fault("a copied sequence lacks its last values", _CACHE,
          "layer.values[place, :, :rows] = layer.values[source, :, :rows]",
          "layer.values[place, :, : rows - 1] = layer.values[source, :, : rows - 1]", _CACHES),
    Fault("a sequence that joins lacks its last values", _CACHE,
          "layer.values[slot, :, : other.length] = other.values[0]",
          "layer.values[slot, :, : other.length - 1] = other.values[0, :, :-1]", _CACHES),
    Fault("values of a bare pass go to the row before", _CACHE,
          "self.values[self.slots, :, self.places] = values",
          "self.values[self.slots, :, self.places - 1] = values", _LEAN),
    Fault("an accepted row right behind its place stays there", _BATCH,
          "if node > at\n", "if node > at + 1\n", _SEATS),
    Fault("a sequence that takes another slot lacks its last row", _BATCH,
          "seat.slot, last.context_length - 1)", "seat.slot, last.context_length - 2)", _SEATS),
    Fault("a sequence takes another slot before its rows are in place", _BATCH,
          "                self._settle()\n                if last.filled",
          "                if last.filled", _SEATS),
    Fault("rows of a chain in a bare batch see those after them", _BATCH,
          "sees = network.chain(at, past + rows)", "sees = None", _LEAN),
    Fault("trees in a bare batch see beyond their windows", _BATCH,
          "{name: within_window(tree, at, window) for name, window in windows}",
          "{name: tree for name, window in windows}", _LEAN),
    Fault("the likeliest tokens are those of the first sequence", _ROWS,
          "top_of(self._scored.logits[self._first : self._first + self._nodes + 1], k)",
          "top_of(self._scored.logits[: self._nodes + 1], k)", _LEAN),
    Fault("a window holds one token more", _TREE_ROWS, "- at < window)", "- at <= window)", _LEAN),
    Fault("a window counts rows, not positions", _TREE_ROWS,
          "np.concatenate((np.arange(keys - len(positions)), positions))", "np.arange(keys)",
          _LEAN),
    Fault("positions of a bare pass end too early", "src/draftwood/targets/transformers/lean.py",
          "last >= len(turns[0])", "last > len(turns[0])", _LEAN),
    Fault("the beginning of a stop string is shown", _STREAM,
          "min(len(text), len(stop) - 1)", "min(len(text), len(stop) - 2)", _TEXT),
    Fault("the last of several stop strings cuts", _STREAM, "self._give(text[: min(found)])",
          "self._give(text[: max(found)])", _TEXT),
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
    Fault("a prediction is followed again after one token", _FOLLOWER,
          "constexpr std::uint32_t kLock = 3;", "constexpr std::uint32_t kLock = 1;", _PREDICTED,
          native=True),
    Fault("a prediction: what was replaced is not kept", _FOLLOWER,
          "if (gone > 0 && gone <= kPair", "if (gone > kPair && gone <= kPair", _PREDICTED,
          native=True),
    Fault("a prediction teaches the cells the opposite", _FOLLOWER,
          "trust->learn(offer.cell, offer.token == truth)",
          "trust->learn(offer.cell, offer.token != truth)", _PREDICTED, native=True),
    Fault("a prediction: space at its seam is compared", "native/src/prediction_seams.cpp",
          "leading = leading && is_space(byte);", "leading = false;",
          ("tests/unit/test_token_texts.py",), native=True),
    Fault("a prediction's draft has a node more than it may", _MERGE,
          "if (made_.size() == limits.nodes) break;", "if (made_.size() > limits.nodes) break;",
          _PREDICTED, native=True),
    Fault("a prediction takes nothing from the confidence of others", _MERGE,
          "std::min<std::uint64_t>(node.confidence, node.confidence * rest / own)",
          "std::uint64_t{node.confidence}", _PREDICTED, native=True),
    Fault("all drafted tokens of a prediction count as accepted", "src/draftwood/stats.py",
          "self.accepted_prediction_tokens += right",
          "self.accepted_prediction_tokens += int(predicted.sum())",
          ("tests/unit/test_stats.py",)),
    Fault("a list of predictions is taken for one", "src/draftwood/sessions/sessions.py",
          "several = isinstance(prediction, (list, tuple)) and len(prediction) > 0",
          "several = False", ("tests/unit/test_sessions.py",)),
    Fault("only the first of several predictions is known", "src/draftwood/index/recall_stream.py",
          "predictions=[as_tokens(each) for each in predictions],",
          "predictions=[as_tokens(each) for each in predictions][:1],", _PREDICTED),
)  # fmt: skip
