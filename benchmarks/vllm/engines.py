"""Engines of vLLM in this process, whose next tokens can be forced and whose drafters are timed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from time import process_time, thread_time
from typing import Any, TypeAlias

from benchmarks.vllm.traffic import Request, Traffic

NODES = 24
CONTEXT = 8
"""Tokens of a prompt's end that stand before an answer in our history."""
ENGINES = ("none", "suffix", "draftwood", "scheduler")


def prepare() -> None:
    """What vLLM reads of the environment; to be called before it is imported."""
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_NO_USAGE_STATS="1",
        VLLM_PLUGINS="draftwood",
        VLLM_LOGGING_LEVEL="ERROR",
        OMP_NUM_THREADS="1",
        NUMBA_NUM_THREADS="1",
        HF_HUB_OFFLINE="1",
    )


def random_model(vocab_size: int, *, hidden: int, layers: int) -> Path:
    """A folder with a random Llama, since what is forced needs no model that can say it."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=-(-vocab_size // 64) * 64,
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 192),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    folder = Path(mkdtemp(prefix="draftwood-vllm-"))
    AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    return folder


Text: TypeAlias = tuple[int, ...]


class Engine:
    """One engine. Its runner counts requests and drafted tokens of every pass."""

    def __init__(self, name: str, model: Path, traffic: Traffic, *, batch: int, limit: int) -> None:
        from vllm import LLM

        options: dict[str, Any] = {}
        if name == "suffix":
            method = {"method": "suffix", "num_speculative_tokens": NODES}
            options["speculative_config"] = method
        elif name != "none":
            method = {"model": "draftwood.vllm.Proposer", "num_speculative_tokens": NODES}
            options["speculative_config"] = method
            options["additional_config"] = {"draftwood": {"log_seconds": 0}}
            if name == "scheduler":
                options["scheduler_cls"] = "draftwood.vllm.Scheduler"
        self.name = name
        self.forced = traffic.model is None
        self.llm = LLM(
            str(model),
            dtype="float32",
            enforce_eager=True,
            max_model_len=limit,
            max_num_seqs=max(batch, 2),
            max_num_batched_tokens=8192,
            kv_cache_memory_bytes=1 << 30,
            distributed_executor_backend="uni",
            skip_tokenizer_init=True,
            **options,
        )
        core = self.llm.llm_engine.engine_core.engine_core
        self._runner = core.model_executor.driver_worker.worker.model_runner
        self._requests: list[Request] = []
        self.rows = self.drafted = self.steps = 0
        self.drafting: list[float] = []
        self._watch(core)
        self._teach(core, traffic.history)

    def _watch(self, core: Any) -> None:
        """Count passes and, where outcomes are forced, set the logit of what was recorded."""
        sample, runner = self._runner._sample, self._runner

        def watched(logits: Any, metadata: Any) -> Any:
            counts = [0] * runner.input_batch.num_reqs
            if metadata is not None:
                counts = metadata.num_draft_tokens
            self.rows += len(counts)
            self.drafted += sum(counts)
            if self.forced:
                rows, tokens = self._recorded(counts)
                logits[rows, tokens] = 1e9
            return sample(logits, metadata)

        runner._sample = watched
        target, verb = None, "propose"
        if self.name == "scheduler":
            target, verb = core.scheduler, "_drafts"
        elif self.name != "none":
            target = runner.drafter
        if target is None:
            return
        propose = getattr(target, verb)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = thread_time()
            found = propose(*args, **kwargs)
            self.drafting.append(thread_time() - start)
            return found

        setattr(target, verb, timed)

    def _recorded(self, counts: Sequence[int]) -> tuple[list[int], list[int]]:
        """Rows of the logits and the tokens that were recorded for them."""
        rows: list[int] = []
        tokens: list[int] = []
        first = 0
        for name, count in zip(self._runner.input_batch.req_ids, counts, strict=True):
            state = self._runner.requests[name]
            answer = self._requests[state.sampling_params.extra_args["number"]].answer
            said = len(state.output_token_ids)
            for row in range(count + 1):
                rows.append(first + row)
                tokens.append(answer[min(said + row, len(answer) - 1)])
            first += count + 1
        return rows, tokens

    def _teach(self, core: Any, history: Sequence[Request]) -> None:
        """Both sides begin with the same answers."""
        if self.name == "suffix":
            cache = self._runner.drafter.suffix_cache
            for at, each in enumerate(history):
                cache.start_request(f"h{at}", each.prompt)
                cache.add_active_response(f"h{at}", each.answer)
                cache.stop_request(f"h{at}")
        elif self.name != "none":
            recall = self._sessions(core).recall
            for each in history:
                recall.add(each.answer, context=each.prompt[-CONTEXT:])

    def _sessions(self, core: Any) -> Any:
        holder = core.scheduler if self.name == "scheduler" else self._runner.drafter
        return holder.drafting

    def serve(self, requests: Sequence[Request], tokens: int) -> tuple[float, list[Text]]:
        """CPU seconds for a chunk, and what was said. Prompts are in the prefix cache by then."""
        from vllm import SamplingParams

        self._requests = list(requests)
        asked = [{"prompt_token_ids": each.prompt} for each in requests]

        def sampling(most: int) -> list[Any]:
            return [
                SamplingParams(
                    temperature=0.0,
                    max_tokens=min(most, len(each.answer) or most),
                    ignore_eos=self.forced,
                    extra_args={"number": at},
                    detokenize=False,
                )
                for at, each in enumerate(requests)
            ]

        off = {"draftwood": False}
        first = sampling(1)
        for each in first:
            each.extra_args |= off
        self.llm.generate(asked, first, use_tqdm=False)
        self.rows = self.drafted = 0
        self.drafting.clear()
        start = process_time()
        outputs = self.llm.generate(asked, sampling(tokens), use_tqdm=False)
        spent = process_time() - start
        return spent, [tuple(each.outputs[0].token_ids) for each in outputs]

    def draft_ms(self) -> float:
        """Of the last chunk's steps, the median."""
        return 1e3 * median(self.drafting) if self.drafting else 0.0
