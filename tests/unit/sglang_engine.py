"""A small engine that shows Draftwood's worker what SGLang 0.5.23 shows it; it needs no SGLang.

Made from speculative/ngram_worker.py, managers/scheduler.py (event_loop_overlap) and
managers/overlap_utils.py: with overlap a pass is launched before the results of the one before are
entered; what it brought stands in `spec_info`, and still does after a prompt was computed.
Requests are in one more pass after their last. A pass walks the trees as `eagle_sample` does, and a
broken rule raises.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

VOCAB, END, LIMIT = 50, 49, 96


class NGRAMWorker:
    """As much of SGLang's class as ours stands on."""

    def __init__(self, server_args, gpu_id, nccl_port, target_worker):
        self.draft_token_num = server_args.speculative_num_draft_tokens
        self.topk = server_args.speculative_eagle_topk

    def note_request_finished(self, *, rid, natural_stop):
        pass

    def clear_cache_pool(self):
        pass


@dataclass(eq=False)
class Request:
    """One request. says: what the model will generate, whatever is drafted."""

    rid: str
    prompt: list[int]
    says: list[int]
    max_new: int = 64
    extra: dict | None = None
    cache_salt: str | None = None
    lora_id: str | None = None
    grammar: bool = False
    output_ids: array = field(default_factory=lambda: array("q"))
    unprocessed: list[list[int]] = field(default_factory=list)
    relay: list[int] = field(default_factory=list)
    done: bool = False

    def __post_init__(self):
        self.origin_input_ids_unpadded = array("q", self.prompt)
        self.eos_token_ids = {END}
        self.tokenizer = SimpleNamespace(eos_token_id=END, additional_stop_token_ids=None)
        self.sampling_params = SimpleNamespace(
            max_new_tokens=self.max_new,
            stop_token_ids=None,
            ignore_eos=False,
            custom_params=self.extra,
        )

    @property
    def said(self):
        """What the device has said, whether it is entered or not."""
        return list(self.output_ids) + [token for new in self.unprocessed for token in new]

    def next(self, said):
        return self.says[len(said)] if len(said) < len(self.says) else 1

    def brings(self, new):
        self.relay = new
        self.unprocessed.append(new)


class Engine:
    """The scheduler and its result processor. workers: one of each rank."""

    def __init__(self, workers, slots, *, overlap=True):
        self.workers, self.slots, self.overlap = workers, slots, overlap
        self.passes = 0
        self.trees = []

    def serve(self, asked, *, rows=4, retract=lambda passes: ()):
        """Texts by request id. retract(pass): ids that go back to the queue, text and all."""
        self.waiting, self.running, self.texts, queue = list(asked), [], {}, []
        while self.waiting or self.running or queue:
            for request in [each for each in self.running if each.rid in retract(self.passes)]:
                while queue:
                    self.enter(queue.pop(0))
                if request in self.running:
                    self.running.remove(request)
                    self.waiting.append(request)
            prompt = bool(self.waiting) and len(self.running) < rows
            batch = [self.waiting.pop(0)] if prompt else list(self.running)
            waits = not self.overlap or any(request.grammar for request in batch)
            if waits:
                while queue:
                    self.enter(queue.pop(0))
                batch = batch if prompt else list(self.running)
            if batch and prompt:
                batch[0].brings([batch[0].next(batch[0].said)])
                self.running += batch
            elif batch:
                self.verify(batch)
            if batch:
                queue.append(batch)
            while len(queue) > (0 if waits or not batch else 1):
                self.enter(queue.pop(0))
            assert self.passes < 5000
        return self.texts

    def enter(self, batch):
        """What a pass brought reaches the texts; requests end."""
        for request in batch:
            new = request.unprocessed.pop(0)
            if request.done:
                continue
            request.output_ids.extend(new)
            said = list(request.output_ids)
            ends = [at + 1 for at, token in enumerate(said) if token == END][:1]
            if ends or len(said) >= request.max_new:
                self.texts[request.rid] = said[: min([*ends, request.max_new])]
                request.done = True
                self.running.remove(request)
                for worker in self.workers:
                    worker.note_request_finished(rid=request.rid, natural_stop=bool(ends))

    def verify(self, batch):
        """A pass over trees."""
        padded = [request.relay + [0] * (self.slots - len(request.relay)) for request in batch]
        shown = SimpleNamespace(
            reqs=batch,
            seq_lens_cpu=torch.tensor([len(each.prompt) + len(each.said) - 1 for each in batch]),
            spec_info=SimpleNamespace(
                accept_tokens=torch.tensor(padded, dtype=torch.int32).flatten(),
                accept_lens=torch.tensor([len(each.relay) for each in batch], dtype=torch.int32),
            ),
        )
        tokens, masks = self.drafts(shown)
        self.passes += 1
        assert tokens.dtype == masks.dtype == np.int64
        trees = tokens.reshape(len(batch), self.slots)
        sight = masks.reshape(len(batch), self.slots, self.slots)
        for request, tree, mask in zip(batch, trees, sight, strict=True):
            parents = check(tree, mask)
            assert tree[0] == (request.prompt + request.said)[-1]
            self.trees.append((request.rid, tree.tolist(), parents))
            request.brings(walk(request, tree, parents))

    def drafts(self, shown):
        (found,) = [worker._prepare_draft_tokens(shown) for worker in self.workers]
        return found


def check(tree, mask):
    """The contract of a tree; its parents."""
    slots = len(tree)
    parents = [max((j for j in range(i) if mask[i, j]), default=-1) for i in range(slots)]
    assert all(0 <= token < VOCAB for token in tree)
    for node, parent in enumerate(parents):
        above = set() if parent < 0 else set(np.flatnonzero(mask[parent]))
        assert set(np.flatnonzero(mask[node])) == above | {node}
        assert (parent < 0) == (node == 0)
        siblings = [at for at in range(slots) if parents[at] == parent and at != node]
        assert all(tree[at] != tree[node] for at in siblings)  # drawn twice under one parent
    return parents


def walk(request, tree, parents):
    """The tokens that a pass accepts, and the model's own."""
    said, new, at = request.said, [], 0
    while True:
        new.append(request.next(said + new))
        below = [node for node, parent in enumerate(parents) if parent == at]
        right = [node for node in below if tree[node] == new[-1]]
        if not right or len(new) == len(tree):
            return new
        at = right[0]
