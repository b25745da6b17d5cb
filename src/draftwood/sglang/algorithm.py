"""The algorithm DRAFTWOOD: SGLang's own n-gram path, with another worker."""

from __future__ import annotations

from typing import Any

from draftwood.errors import InvalidOption
from draftwood.sglang.drafting import options_of_environment

NAME = "DRAFTWOOD"
SLOTS = 16
"""Slots of a request in a pass where none are asked for; slot 0 is its last token."""
MOST_RUNNING = 48
"""Requests at once where no limit is given, as SGLang has it for NGRAM."""


def register_algorithm() -> None:
    """Register the algorithm, unless it is."""
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
    from sglang.srt.speculative.spec_registry import CustomSpecAlgo, get_spec

    if get_spec(NAME) is None:
        SpeculativeAlgorithm.register(
            NAME,
            supports_overlap=True,
            validate_server_args=check,
            spec_class=algorithm_class(CustomSpecAlgo),
        )(_worker)


def algorithm_class(base: type) -> type:
    """The algorithm's class, derived from SGLang's `CustomSpecAlgo`.

    It answers what NGRAM answers, since SGLang asks the algorithm which batch, buffers and graphs a
    pass needs, and has more methods on its own algorithms than on the class for those of others.
    """

    class DraftwoodAlgorithm(base):  # type: ignore[misc]
        """Trees from history, verified as NGRAM's are."""

        def is_ngram(self) -> bool:
            return True

        def has_draft_kv(self) -> bool:
            return False

        def carries_draft_hidden_states(self) -> bool:
            return False

        def need_topk(self) -> bool:
            return False

        def create_future_map(self, device: Any, pool: Any, *args: Any, **kwargs: Any) -> Any:
            from sglang.srt.managers.overlap_utils import FutureMap

            return FutureMap(device, self, pool, *args, **kwargs)

        def handle_server_args(self, server_args: Any) -> None:
            """Fill in what was not given, as SGLang does for NGRAM."""
            given = server_args
            given.enable_mixed_chunk = False
            if given.device == "cpu":
                given.disable_overlap_schedule = True
            if given.max_running_requests is None:
                given.max_running_requests = MOST_RUNNING
            breadth = given.speculative_ngram_max_bfs_breadth
            given.speculative_eagle_topk = breadth
            slots = given.speculative_num_draft_tokens or SLOTS
            given.speculative_num_draft_tokens = slots
            if given.speculative_num_steps is None:
                given.speculative_num_steps = max(1, slots // breadth)
            given.speculative_ngram_capacity = 1000  # SGLang's own corpus is made and not used

    return DraftwoodAlgorithm


def check(server_args: Any) -> None:
    """Refuse what does not go together, before anything is loaded.

    Raises:
        InvalidOption: with the flag to change.
    """
    given = server_args
    options_of_environment()
    if given.speculative_num_draft_tokens is not None and given.speculative_num_draft_tokens < 2:
        raise InvalidOption(
            f"--speculative-num-draft-tokens is {given.speculative_num_draft_tokens}; use 2 or "
            "more, such as 16: slot 0 is the last token"
        )
    if given.speculative_ngram_external_corpus_path is not None:
        raise InvalidOption(
            "--speculative-ngram-external-corpus-path is of SGLang's NGRAM; put texts into a "
            'history with "draftwood index build" and name it in DRAFTWOOD_OPTIONS: '
            '{"drafter": "recall:history=FILE"}'
        )
    if given.pp_size > 1:
        raise InvalidOption(f"--pp-size is {given.pp_size}; DRAFTWOOD needs 1")
    if given.enable_dp_attention:
        raise InvalidOption("--enable-dp-attention and DRAFTWOOD do not go together; leave it out")
    breadth = given.speculative_ngram_max_bfs_breadth
    if breadth > 1 and (given.page_size or 1) > 1 and given.attention_backend != "flashinfer":
        raise InvalidOption(
            f"--page-size is {given.page_size} with attention backend {given.attention_backend}, "
            "which cannot verify trees; use --page-size 1, --attention-backend flashinfer, or "
            "--speculative-ngram-max-bfs-breadth 1 for chains"
        )


def _worker(_server_args: Any) -> type:
    from sglang.srt.speculative.ngram_worker import NGRAMWorker

    from draftwood.sglang.worker import worker_class

    return worker_class(NGRAMWorker)
