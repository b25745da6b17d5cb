"""Engines that run a model themselves: their own decoding, and ours in them, in one run.

    python benchmarks/engines/run.py --engine llama.cpp --model FILE.gguf [--json]
    python benchmarks/engines/run.py --engine onnx --model FOLDER [--json]

Sides answer each prompt in turn, another one first each time, greedily; a side's time is that of
its whole calls, prompts included. `equal` is the share of texts that are those of the engine's own
decoding. The passes of quantized models round by the order of sums, so a few near ties may turn.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.load import load

PACKAGES = {"llama.cpp": "llama_cpp", "onnx": "onnxruntime_genai"}
PLAIN = "engine"

Answer = Callable[[Sequence[int]], list[int]]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--engine", choices=list(PACKAGES), default="llama.cpp")
    made.add_argument("--model", help="a .gguf file, or a folder of onnxruntime-genai")
    made.add_argument(
        "--prompts", type=Path, default=Path(__file__).parents[1] / "real/prompts.jsonl"
    )
    made.add_argument("--count", type=int, default=30, help="prompts")
    made.add_argument("--tokens", type=int, default=64, help="generated tokens a prompt, at most")
    made.add_argument("--context", type=int, default=2048, help="tokens of prompt and text")
    made.add_argument("--threads", type=int, default=1)
    options = read(made, count=2, tokens=8)
    rows: list[dict[str, Any]] = []
    installed = find_spec(PACKAGES[options.engine]) is not None and find_spec("gguf") is not None
    if installed and options.smoke and options.model is None:
        with TemporaryDirectory() as folder:
            from tests.engines.llama_cpp.gguf_model import write_gguf

            path = write_gguf(Path(folder) / "tiny.gguf")
            prompts = [[1 + at % 60 for at in range(20)], [5, 6, 7] * 5]
            sides = llama_sides(str(path), 128, options.threads, ours(None, options.threads, path))
            rows = measured(sides, prompts, options.tokens)
    elif options.model is None and not options.smoke:
        made.error("give --model PATH, or --smoke")
    elif installed:
        rows = measured_model(options)
    print("| side | tokens/s | over the engine's own | median of prompts | equal |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['side']} | {row['tokens_per_second']:.1f} | {row['over_plain']:.2f}x "
            f"| {row['median']:.2f}x | {row['equal']:.1%} |"
        )
    require(all(row["tokens_per_second"] > 0 for row in rows), "every side generates tokens")
    publish({"rows": rows, "engine": options.engine, "installed": installed}, options)


def measured_model(options: Any) -> list[dict[str, Any]]:
    """Figures of a real model over the prompts."""
    with load(options.model, "none", engine=options.engine) as llm:
        kinds: dict[str, list[str]] = {}
        for line in map(json.loads, options.prompts.read_text("utf-8").splitlines()):
            kinds.setdefault(line["kind"], []).append(line["prompt"])
        turns = [prompt for group in zip(*kinds.values(), strict=True) for prompt in group]
        prompts = [llm.encode(prompt).tolist() for prompt in turns[: options.count]]
        own = ours(llm, options.threads, options.model)
        if options.engine == "onnx":
            sides = onnx_sides(options.model, options.context, own)
        else:
            sides = llama_sides(options.model, options.context, options.threads, own)
        return measured(sides, prompts, options.tokens)


def ours(llm: Any, threads: int, path: Any) -> dict[str, Callable[[int], Answer]]:
    """Our loop on the engine's passes."""
    from draftwood.decode import decode
    from draftwood.drafters.catalog import make_drafter
    from draftwood.language_model.model import LanguageModel
    from draftwood.targets.llama_cpp.target import LlamaCppTarget
    from draftwood.text.stop import Stop
    from draftwood.verify.greedy import Greedy

    sides: dict[str, Callable[[int], Answer]] = {}
    target = LlamaCppTarget(path, threads=threads) if llm is None else llm.target
    specs = {"plain": "none", "lookup": "lookup", "recall": "recall:share=16"}
    specs |= {"recall chain": "recall:mode=chain,share=16"}
    for name, spec in specs.items():
        if llm is None:
            drafter = make_drafter(spec)

            def alone(count: int, drafter: Any = drafter) -> Answer:
                def answer(prompt: Sequence[int]) -> list[int]:
                    stop = Stop(max_tokens=count)
                    steps = decode(target, drafter, Greedy(), list(prompt), stop=stop)
                    return [token for step in steps for token in step.tokens.tolist()]

                return answer

            sides[f"draftwood {name}"] = alone
            continue
        model = LanguageModel(target, llm.tokenizer, spec, cost="auto")

        def whole(count: int, model: Any = model) -> Answer:
            def answer(prompt: Sequence[int]) -> list[int]:
                text = model.generate(np.array(prompt, np.int32), max_tokens=count, temperature=0.0)
                found: list[int] = text.tokens.tolist()
                return found

            return answer

        sides[f"draftwood {name}"] = whole
    return sides


def llama_sides(
    path: str, context: int, threads: int, own: dict[str, Callable[[int], Answer]]
) -> dict[str, Callable[[int], Answer]]:
    """`Llama` of llama-cpp-python by itself, with its prompt lookup, and with our draft model."""
    from llama_cpp import Llama
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    from draftwood.llama_cpp import DraftModel

    drafts = {
        PLAIN: None,
        "LlamaPromptLookupDecoding, 10": LlamaPromptLookupDecoding(num_pred_tokens=10),
        "LlamaPromptLookupDecoding, 2": LlamaPromptLookupDecoding(num_pred_tokens=2),
        "DraftModel": DraftModel(),
    }
    sides: dict[str, Callable[[int], Answer]] = {}
    for name, draft_model in drafts.items():
        llama = Llama(
            path,
            n_ctx=context,
            n_threads=threads,
            n_threads_batch=threads,
            draft_model=draft_model,
            verbose=False,
        )
        ends = set() if llama.token_eos() < 0 else {llama.token_eos()}

        def bound(count: int, llama: Any = llama, ends: set[int] = ends) -> Answer:
            def answer(prompt: Sequence[int]) -> list[int]:
                llama.reset()
                found: list[int] = []
                for token in llama.generate(list(prompt), temp=0.0, repeat_penalty=1.0):
                    found.append(token)
                    if len(found) == count or token in ends:
                        break
                return found

            return answer

        sides[name] = bound
    return sides | own


def onnx_sides(
    path: str, context: int, own: dict[str, Callable[[int], Answer]]
) -> dict[str, Callable[[int], Answer]]:
    """onnxruntime-genai's own loop."""
    import onnxruntime_genai as genai

    model = genai.Model(path)

    def bound(count: int) -> Answer:
        def answer(prompt: Sequence[int]) -> list[int]:
            params = genai.GeneratorParams(model)
            params.set_search_options(max_length=context)
            generator = genai.Generator(model, params)
            generator.append_tokens(np.array(prompt, np.int32))
            found: list[int] = []
            while len(found) < count and not generator.is_done():
                generator.generate_next_token()
                found.append(int(generator.get_next_tokens()[0]))
            return found

        return answer

    return {PLAIN: bound} | own


def measured(
    made: dict[str, Callable[[int], Answer]], prompts: Sequence[Sequence[int]], tokens: int
) -> list[dict[str, Any]]:
    """What each side took for all prompts; a short text of the first one warms up."""
    for make in made.values():
        make(4)(prompts[0])
    sides = {name: make(tokens) for name, make in made.items()}
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    texts: dict[str, list[list[int]]] = {name: [] for name in names}
    for prompt in prompts:
        for name in names:
            start = perf_counter()
            texts[name].append(sides[name](prompt))
            seconds[name].append(perf_counter() - start)
        names.append(names.pop(0))

    def rates(name: str) -> list[float]:
        return [len(text) / took for text, took in zip(texts[name], seconds[name], strict=True)]

    def rate(name: str) -> float:
        return sum(map(len, texts[name])) / sum(seconds[name])

    return [
        {
            "side": name,
            "tokens_per_second": rate(name),
            "over_plain": rate(name) / rate(PLAIN),
            "median": statistics.median(
                one / other for one, other in zip(rates(name), rates(PLAIN), strict=True)
            ),
            "equal": statistics.mean(
                text == plain for text, plain in zip(texts[name], texts[PLAIN], strict=True)
            ),
        }
        for name in sides
    ]


if __name__ == "__main__":
    main()
