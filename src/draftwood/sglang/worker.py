"""SGLang's n-gram worker with Draftwood's trees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.sglang.drafting import TreeDrafting, drafting_of, masks_of


def worker_class(base: type) -> type:
    """Our worker, derived from SGLang's `NGRAMWorker`.

    What it changes: where drafts come from, and that it is told of the end of requests. Verifying,
    graphs, grammars, logprobs and the overlap of passes stay SGLang's.
    """

    class DraftwoodWorker(base):  # type: ignore[misc]
        """Every rank of a tensor-parallel group has one; the first drafts for all."""

        def __init__(
            self, server_args: Any, gpu_id: int, nccl_port: int, target_worker: Any
        ) -> None:
            from sglang.srt.distributed import get_tp_group

            super().__init__(
                server_args=server_args,
                gpu_id=gpu_id,
                nccl_port=nccl_port,
                target_worker=target_worker,
            )
            self._group = get_tp_group()
            first = self._group.rank_in_group == 0
            self.drafting: TreeDrafting | None = (
                drafting_of(target_worker, self.draft_token_num, trees=self.topk > 1)
                if first
                else None
            )

        def _prepare_draft_tokens(self, batch: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            """Tokens int64 [rows * slots], and who sees whom int64 [rows * slots * slots]."""
            rows, slots = len(batch.reqs), self.draft_token_num
            trees = np.zeros((2, rows, slots), np.int32)
            if self.drafting is not None:
                self.drafting.fill(trees, batch.reqs, self._behind_texts(batch))
            if self._group.world_size > 1:
                self._share(trees)
            tokens, parents = trees
            masks = masks_of(parents)
            return tokens.reshape(-1).astype(np.int64), masks.reshape(-1).astype(np.int64)

        def _behind_texts(self, batch: Any) -> list[list[int]]:
            """For each row the tokens that the cache counts and its text does not have yet.

            With overlap SGLang enters what a pass brought a pass later; until then it stands in
            `spec_info`, and goes on to stand there when a prompt was computed in between.
            """
            lengths = [
                len(request.origin_input_ids_unpadded) + len(request.output_ids)
                for request in batch.reqs
            ]
            missing = [
                int(cached) + 1 - length  # the last token is in the text and not in the cache
                for cached, length in zip(batch.seq_lens_cpu, lengths, strict=True)
            ]
            if not any(missing):
                return [[] for _ in missing]
            tokens = batch.spec_info.accept_tokens.cpu().tolist()
            counts = batch.spec_info.accept_lens.cpu().tolist()
            slots, found = self.draft_token_num, []
            for row, (count, few) in enumerate(zip(counts, missing, strict=True)):
                end = row * slots + count
                found.append(tokens[max(end - few, row * slots) : end] if few > 0 else [])
            return found

        def _share(self, trees: NDArray[np.int32]) -> None:
            """The first rank's trees go to all: drafts may depend on the clock and on files."""
            import torch

            torch.distributed.broadcast(
                torch.from_numpy(trees), src=self._group.ranks[0], group=self._group.cpu_group
            )

        def _update_ngram_corpus(self, batch: Any) -> None:
            """SGLang's own corpus stays empty."""

        def note_request_finished(self, *, rid: str, natural_stop: bool) -> None:
            """A request is done: what it generated is learned."""
            super().note_request_finished(rid=rid, natural_stop=natural_stop)
            if self.drafting is not None:
                self.drafting.sessions.end(rid)

        def clear_cache_pool(self) -> None:
            """SGLang flushes its caches: open requests end, history stays."""
            super().clear_cache_pool()
            if self.drafting is not None:
                self.drafting.sessions.keep(())

    return DraftwoodWorker
