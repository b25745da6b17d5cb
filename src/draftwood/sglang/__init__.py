"""Not run on a GPU: Draftwood as a speculative algorithm of SGLang, read and tested on its sources.

    DRAFTWOOD_OPTIONS='{"path": "/var/lib/draftwood"}' \
        sglang serve MODEL --speculative-algorithm DRAFTWOOD --speculative-num-draft-tokens 16

SGLang finds `install_algorithm` through the entry point group `sglang.srt.plugins`. Importing this
package imports nothing of SGLang. docs/sglang.md says the rest.
"""

from __future__ import annotations


def install_algorithm() -> None:
    """Register the algorithm DRAFTWOOD; SGLang calls this in each of its processes."""
    from draftwood.sglang.algorithm import register_algorithm

    register_algorithm()
