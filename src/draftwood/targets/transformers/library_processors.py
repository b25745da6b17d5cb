"""Logits processors of transformers, as the laws of Draftwood ask them.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption


class LibraryProcessors:
    """Logits processors of transformers as one of Draftwood's."""

    def __init__(self, processors: Sequence[Any]) -> None:
        self._processors = tuple(processors)

    def __call__(self, ids: TokenIds, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [V]: the logits after all of them.

        Raises:
            InvalidOption: where one of them raises.
        """
        if not self._processors:
            return logits
        import torch

        with torch.inference_mode():
            before = torch.from_numpy(ids.astype(np.int64))[None]
            scores = torch.from_numpy(logits)[None]
            for processor in self._processors:
                try:
                    scores = processor(before, scores)
                except Exception as error:  # of a value that it had taken
                    raise InvalidOption(
                        f"{type(processor).__name__}, which the model's generation config asks "
                        f"for, fails after {len(ids)} tokens ({_first_line(error)}); correct its "
                        "values in generation_config.json"
                    ) from error
            found: NDArray[np.float32] = scores[0].numpy()
        return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


def border(ids: Any, scores: Any) -> Any:
    """The place of the call's own processors in transformers' list."""
    return scores
