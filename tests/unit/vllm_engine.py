"""A small engine that shows its doors what vLLM 0.32 shows them; it needs no vLLM.

Requests stand in the rows of one matrix, which move when others leave; prompts are computed in
chunks; rows stay away while they are preempted; a pass verifies the drafts it was given. Broken
rules of the contract raise, as they end vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np

VOCAB, END = 50, 49
WIDTH = 96


def config(nodes=8, limit=WIDTH, *, scheduler=None, rank=0, ranks=1, **options):
    """What stands in `VllmConfig`, as far as it is read."""
    return SimpleNamespace(
        speculative_config=SimpleNamespace(num_speculative_tokens=nodes),
        model_config=SimpleNamespace(
            max_model_len=limit, get_vocab_size=lambda: VOCAB, skip_tokenizer_init=True
        ),
        scheduler_config=SimpleNamespace(scheduler_cls=scheduler),
        parallel_config=SimpleNamespace(
            tensor_parallel_size=ranks, rank=rank, data_parallel_rank=0
        ),
        additional_config={"draftwood": options} if options else {},
        instance_id="test",
    )


@dataclass
class Asked:
    """One request. says: what the model will generate, whatever is drafted."""

    name: str
    prompt: list[int]
    says: list[int]
    max_tokens: int = 64
    stops: tuple[int, ...] = ()
    extra: dict | None = None
    salt: str | None = None
    adapter: str | None = None
    said: list[int] = field(default_factory=list)
    computed: int = 0

    @property
    def text(self):
        return self.prompt + self.said

    def sampling(self):
        return SimpleNamespace(
            max_tokens=self.max_tokens,
            stop_token_ids=list(self.stops),
            eos_token_id=END,
            extra_args=self.extra,
        )


class Runner:
    """vLLM's runner of version 1, with a proposer."""

    def __init__(self, make, nodes=8, limit=WIDTH, chunk=16):
        self.max_model_len = limit
        self.effective_drafter_max_model_len = limit
        self.requests = {}
        self.input_batch = SimpleNamespace(req_ids=[])
        self.drafter = make()
        self.drafter.load_model(object())
        self._nodes, self._chunk = nodes, chunk

    def propose_draft_token_ids(self):
        """By its name the runner is known."""

    def pass_over(self, rows, drafts):
        """One pass over requests with their drafts; drafts for the next."""
        for gone in [name for name in self.requests if name not in {row.name for row in self.all}]:
            del self.requests[gone]
        self.input_batch.req_ids = [row.name for row in rows]
        matrix = np.full((len(rows) + 2, WIDTH + 64), 7, np.int32)
        ends = np.zeros(len(rows) + 2, np.int32)
        sampled = []
        for at, row in enumerate(rows):
            sampled.append(verify(row, drafts.get(row.name, []), self._chunk))
            self.requests.setdefault(
                row.name,
                SimpleNamespace(
                    num_prompt_tokens=len(row.prompt),
                    sampling_params=row.sampling(),
                    lora_request=None
                    if row.adapter is None
                    else SimpleNamespace(lora_name=row.adapter),
                ),
            )
            # The runner does not know where a request ends: what was accepted behind that stands.
            shown = row.prompt + row.said
            matrix[at, : len(shown)] = shown
            ends[at] = len(shown) if sampled[-1] else row.computed
        longest = max(ends)
        if longest + self._nodes > self.effective_drafter_max_model_len:
            return {row.name: [0] * self._nodes for row in rows}
        found = self.drafter.propose(sampled, ends, matrix, slot_mappings=None)
        check(found, rows, ends, self._nodes, self.max_model_len)
        return dict(zip(self.input_batch.req_ids, found, strict=True))


def verify(row, draft, chunk):
    """What a pass brings a request; nothing while its prompt is not done."""
    if row.computed < len(row.prompt):
        row.computed = min(row.computed + chunk, len(row.prompt))
        if row.computed < len(row.prompt):
            return []
        draft = []
    at, right = len(row.said), 0
    while right < len(draft) and row.says[at + right : at + right + 1] == [draft[right]]:
        right += 1
    new = (row.says + [1] * 20)[at : at + right + 1]
    row.said += new
    return new


def check(drafts, rows, ends, nodes, limit):
    """The contract."""
    assert type(drafts) is list
    assert len(drafts) == len(rows)
    for draft, end in zip(drafts, ends, strict=False):
        assert type(draft) is list
        assert all(type(token) is int and 0 <= token < VOCAB for token in draft)
        assert len(draft) <= max(0, min(nodes, limit - int(end) - 1, 128))


def finish(row, limit):
    """Cut the text where vLLM ends the request; whether it does."""
    stops = {END, *row.stops}
    for at, token in enumerate(row.said):
        full = at + 1 >= row.max_tokens or len(row.prompt) + at + 1 >= limit
        if token in stops or full:
            del row.said[at + 1 :]
            return True
    return False


def serve(runner, asked, *, rows=4, away=None, aborted=(), limit=WIDTH):
    """Serve all requests; passes that it took. away(pass, name): whether a request is preempted."""
    waiting, running, drafts, passes = list(asked), [], {}, 0
    while waiting or running:
        while waiting and len(running) < rows:
            running.append(waiting.pop(0))
        runner.all = running
        here = [row for row in running if away is None or not away(passes, row.name)]
        if not here:
            here = running
        drafts = drafts | runner.pass_over(here, drafts)
        passes += 1
        gone = [
            row
            for row in running
            if (row.said and finish(row, limit)) or (row.name in aborted and len(row.said) > 5)
        ]
        for row in gone:  # the last row takes the place of one that leaves
            at = running.index(row)
            running[at] = running[-1]
            running.pop()
            if isinstance(runner, ScheduledRunner):
                runner.scheduler._free_request(runner.record(row))
        assert passes < 5000
    return passes


class BaseScheduler:
    """As much of vLLM's scheduler as ours uses."""

    def __init__(self, vllm_config):
        self.max_model_len = vllm_config.model_config.max_model_len
        self.requests = {}
        self.scheduled = {}

    def update_draft_token_ids(self, draft_token_ids):
        pairs = zip(draft_token_ids.req_ids, draft_token_ids.draft_token_ids, strict=True)
        for name, draft in pairs:
            request = self.requests.get(name)
            if request is not None and not request.is_prefill_chunk:
                self.scheduled[name] = draft

    def _free_request(self, request):
        del self.requests[request.request_id]

    def shutdown(self):
        self.requests.clear()


@dataclass
class DraftTokenIds:
    req_ids: list[str]
    draft_token_ids: list[list[int]]


def fake_modules():
    """The modules that `draftwood.vllm.scheduler` imports, by name."""
    names = ("vllm", "vllm.v1", "vllm.v1.core", "vllm.v1.core.sched")
    made = {name: ModuleType(name) for name in names}
    made["vllm.v1.core.sched.scheduler"] = ModuleType("scheduler")
    made["vllm.v1.core.sched.scheduler"].Scheduler = BaseScheduler
    made["vllm.v1.outputs"] = ModuleType("outputs")
    made["vllm.v1.outputs"].DraftTokenIds = DraftTokenIds
    return made


class ScheduledRunner:
    """The same engine with a scheduler that drafts."""

    def __init__(self, scheduler, nodes=8, limit=WIDTH, chunk=16):
        self.scheduler = scheduler
        self.max_model_len = limit
        self._nodes, self._chunk = nodes, chunk

    def record(self, row):
        found = self.scheduler.requests.get(row.name)
        if found is None:
            found = SimpleNamespace(
                request_id=row.name,
                num_prompt_tokens=len(row.prompt),
                max_tokens=row.max_tokens,
                sampling_params=row.sampling(),
                cache_salt=row.salt,
                lora_request=None
                if row.adapter is None
                else SimpleNamespace(lora_name=row.adapter),
            )
        found._all_token_ids = list(row.text)
        found.num_tokens = len(row.text)
        found.is_prefill_chunk = row.computed < len(row.prompt)
        return found

    def pass_over(self, rows, drafts):
        for row in rows:
            verify(row, drafts.get(row.name, []), self._chunk)
            if row.said:
                finish(row, self.max_model_len)
            self.scheduler.requests[row.name] = self.record(row)
        self.scheduler.scheduled = {}
        names = [row.name for row in rows]
        self.scheduler.update_draft_token_ids(DraftTokenIds(names, [[0]] * len(names)))
        found = [self.scheduler.scheduled.get(name, []) for name in names]
        check(found, rows, [len(row.text) for row in rows], self._nodes, self.max_model_len)
        return dict(zip(names, found, strict=True))
