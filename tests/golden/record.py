"""Record the golden traces: the packaged demo model answers its own workload.

    python tests/golden/record.py

Traces are token ids, so that no tokenizer stands between them and the ratchet. Recording again
changes them only if the model changed; then write the ratchet anew as well.
"""

import json
from pathlib import Path

import draftwood as dw
from draftwood.demo.model import target_path
from draftwood.demo.workload import workload

TRACES = Path(__file__).parent / "traces"
REQUESTS = 24
SAMPLES = 6


def sql_agent(llm):
    """Greedy agent traffic: all calls of each request, its database as the session."""
    for request in workload(seed=11, requests=REQUESTS):
        answers = []
        for call in request.calls:
            prompt = call.prompt(answers)
            answer = llm.generate(prompt, max_tokens=128, chat=False)
            answers.append(answer.text)
            yield record(llm, prompt, answer, session=request.session)


def rollouts(llm):
    """The drafting of SQL, sampled at temperature 1 round after round, as RL training does."""
    prompts = []
    for request in workload(seed=12, requests=REQUESTS):
        answers = []
        for call in request.calls[:2]:
            answers.append(llm.generate(call.prompt(answers), max_tokens=128, chat=False).text)
        prompts.append(request.calls[2].prompt(answers))
    for sample in range(SAMPLES):
        for number, prompt in enumerate(prompts):
            seed = 1000 * sample + number
            answer = llm.generate(prompt, max_tokens=128, temperature=1.0, seed=seed, chat=False)
            yield record(llm, prompt, answer, session=None)


def record(llm, prompt, answer, *, session):
    return {
        "prompt_tokens": llm.encode(prompt).tolist(),
        "response_tokens": answer.tokens.tolist(),
        **({"session": session} if session else {}),
    }


def main() -> None:
    llm = dw.load(target_path(), drafter="none")
    TRACES.mkdir(exist_ok=True)
    for make in (sql_agent, rollouts):
        path = TRACES / f"{make.__name__}.jsonl"
        lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in make(llm)]
        path.write_text("".join(lines))
        print(f"{path.name}: {len(lines)} records, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
