"""Every class that transformers calls a causal language model, against its own `generate`.

    python benchmarks/families/run.py [--jobs 2] [--out FILE] [KIND ...]

Each class is shrunk to a tiny random model, in a process of its own. Greedy texts of two prompts,
one of them beyond every window, are compared with those of `generate`, token for token: with right
and wrong trees and chains and with Recall as drafters, alone and several in a pass.

    equal      drafts are trees, and every text is that of generate
    chains     the same, with drafts that do not branch
    refused    not run at all, for a reason that is given
    wrong      a text is another one: there is to be none
    untried    the class cannot be shrunk, or its own generate fails on the tiny model
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from benchmarks.common.command import parser, publish, read, require
from benchmarks.families.models import VOCAB_SIZE, tiny
from benchmarks.families.page import OUTCOMES, page
from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import Budget
from draftwood.drafters.catalog import make_drafter
from draftwood.errors import DraftwoodError
from draftwood.targets.transformers.layers import refuse_encoder
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.testing import oracle, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

SMOKE = ["llama", "bloom", "mamba"]
COUNT = 24
"""Tokens of a text."""
PROMPTS = (5, 40)
"""Tokens of a prompt."""
SECONDS = 600
"""What one class may take."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("kinds", nargs="*", help="model types; all, where none is given")
    made.add_argument("--jobs", type=int, default=2, help="processes at once")
    made.add_argument("--page", type=Path, help="write docs/families.md to this file")
    options = read(made)
    kinds = options.kinds or (SMOKE if options.smoke else list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    found = []
    for each in run_all(kinds, options.jobs):
        found.append(each)
        if not options.json:
            why = each.get("reason", "")
            print(f"{each['outcome']:8} {each['kind']:26} {why[:180]}".rstrip(), flush=True)
    found.sort(key=lambda each: kinds.index(each["kind"]))
    counts = Counter(each["outcome"] for each in found)
    if not options.json:
        print("  ".join(f"{name} {counts[name]}" for name in OUTCOMES))
    result = {"counts": {name: counts[name] for name in OUTCOMES}, "classes": found}
    publish(result, options)
    if options.page:
        options.page.write_text(page(result), encoding="utf-8")
    require(not counts["wrong"], "every text is that of generate")


def run_all(kinds: Sequence[str], jobs: int) -> Iterator[dict[str, Any]]:
    """What becomes of each class, as it comes; whatever one does to its process stays there."""
    context = get_context("fork")  # torch and transformers are loaded once
    waiting = list(reversed(kinds))
    running: dict[Connection, tuple[str, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            kind = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(kind, theirs))
            process.start()
            theirs.close()
            running[ours] = kind, process, monotonic() + SECONDS
        first = min(until for _, _, until in running.values())
        ready = wait(list(running), timeout=max(0.0, first - monotonic()))
        for pipe, (kind, process, until) in list(running.items()):
            if pipe in ready:
                try:
                    found = pipe.recv()
                except EOFError:
                    process.join()
                    found = _untried(kind, f"its process ended with {process.exitcode}")
            elif monotonic() >= until:
                process.kill()
                found = _untried(kind, f"it takes more than {SECONDS} seconds")
            else:
                continue
            process.join()
            pipe.close()
            del running[pipe]
            yield found


def _child(kind: str, pipe: Connection) -> None:
    sys.stdout = sys.stderr = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115
    pipe.send(try_class(kind))


def _untried(kind: str, reason: str) -> dict[str, Any]:
    return {"kind": kind, "outcome": "untried", "reason": reason}


def try_class(kind: str) -> dict[str, Any]:
    """Shrink a class and compare its texts; where two tokens are nearly as likely, by two seeds."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {}
    for seed in range(3):
        try:
            model = tiny(kind, seed=seed)
        except Exception as error:
            return _untried(kind, _reason(error))
        try:
            expected, narrow = texts_of_generate(model)
        except Exception as error:
            return without_generate(kind, model, error)
        found = {"kind": kind, "class": type(model).__name__, **outcome_of(model, expected)}
        if found["outcome"] != "wrong" or not narrow:
            break
    return found


def without_generate(kind: str, model: Any, error: Exception) -> dict[str, Any]:
    """What becomes of a model on which `generate` fails: it is refused, or there is no telling."""
    try:
        refuse_encoder(type(model.config)(), type(model).__name__)
        TransformersTarget(model)
    except DraftwoodError as refusal:
        reason = _reason(refusal)
        return {
            "kind": kind,
            "class": type(model).__name__,
            "outcome": "refused",
            "reason": reason,
        }
    return _untried(kind, _reason(error))


def outcome_of(model: Any, expected: dict[int, list[int]]) -> dict[str, Any]:
    """How the texts of one model compare."""
    try:
        refuse_encoder(type(model.config)(), type(model).__name__)
        target = TransformersTarget(model)
    except DraftwoodError as error:
        return {"outcome": "refused", "reason": _reason(error)}
    try:
        wrong = list(differences(target, expected))
    except Exception as error:
        wrong = [_reason(error)]
    if wrong:
        return {"outcome": "wrong", "reason": "; ".join(wrong[:3])}
    return {"outcome": "equal" if target.trees else "chains", "batches": target.batches}


def prompt_of(count: int) -> list[int]:
    """A prompt that does not repeat itself."""
    return [1 + (3 + 7 * i * i) % (VOCAB_SIZE - 1) for i in range(count)]


def texts_of_generate(model: Any) -> tuple[dict[int, list[int]], bool]:
    """The texts by length of prompt, and whether two tokens were all but equally likely."""
    texts, narrow = {}, False
    model.generation_config.eos_token_id = None
    for length in PROMPTS:
        ids = torch.tensor([prompt_of(length)])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            max_new_tokens=COUNT,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        texts[length] = output.sequences[0, length:].tolist()
        logits = torch.cat(output.logits)
        best = logits.topk(2).values
        narrow |= bool((best[:, 0] - best[:, 1] < 1e-3 * logits.std(-1)).any())
    return texts, narrow


def differences(target: TransformersTarget, expected: dict[int, list[int]]) -> Iterator[str]:
    """Texts that are not those of `generate`."""
    recall = make_drafter("recall")
    for length, text in expected.items():
        whole = [*prompt_of(length), *text]
        drafters = {
            "wrong trees": random_trees(VOCAB_SIZE),
            "trees with decoys": oracle(whole, vocab_size=VOCAB_SIZE, decoys=2, errors=0.1),
            "right chains": oracle(whole, vocab_size=VOCAB_SIZE),
            "recall": recall,
            "recall, the second time": recall,
        }
        for name, drafter in drafters.items():
            prompt, stop = prompt_of(length), Stop(COUNT)
            steps = decode(target, drafter, Greedy(), prompt, budget=Budget(12), stop=stop)
            if [token for step in steps for token in step.tokens.tolist()] != text:
                yield f"another text with {name} after {length} tokens"
    together = [length for length in expected for _ in range(2)]
    requests = [
        Request(
            prompt_of(length),
            Greedy(),
            Stop(COUNT),
            drafter=oracle(
                [*prompt_of(length), *expected[length]],
                vocab_size=VOCAB_SIZE,
                decoys=1,
                errors=0.2,
                seed=number,
            ),
        )
        for number, length in enumerate(together)
    ]
    texts: list[list[int]] = [[] for _ in together]
    wrong = random_trees(VOCAB_SIZE)
    for number, step in decode_batch(target, wrong, requests, max_batch=3, budget=Budget(8)):
        texts[number] += step.tokens.tolist()
    for number, length in enumerate(together):
        if texts[number] != expected[length]:
            yield f"another text of sequence {number} in a batch after {length} tokens"


def _reason(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0]
    return line if isinstance(error, DraftwoodError) else f"{type(error).__name__}: {line}"


if __name__ == "__main__":
    main()
