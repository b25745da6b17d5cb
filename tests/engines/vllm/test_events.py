"""Texts by the events of an engine's cache, which knows nothing of us."""

from __future__ import annotations

import time

from tests.engines.vllm.engine import make_model, needs_vllm, start

ENDPOINT = "tcp://127.0.0.1:5597"
BLOCK = 32
"""What attention on a CPU takes."""


@needs_vllm
def test_what_an_engine_generates_comes_as_texts(tmp_path):
    from vllm import SamplingParams
    from vllm.config.kv_events import KVEventsConfig

    from draftwood.share.kv_events import CacheEventsPublisher

    class Sink:
        def __init__(self):
            self.texts = []

        def finished(self, text):
            self.texts.append(text)

    sink = Sink()
    events = KVEventsConfig(enable_kv_cache_events=True, publisher="zmq", endpoint="tcp://*:5597")
    engine = start(make_model(tmp_path / "model"), block_size=BLOCK, kv_events_config=events)
    publisher = CacheEventsPublisher(ENDPOINT, sink, idle=0.5)
    time.sleep(1.0)
    answers = []
    for number in range(3):
        prompt = [(7 * number + 3 * at) % 200 + 10 for at in range(4 * BLOCK + 5)]
        options = SamplingParams(max_tokens=90, temperature=0.8, seed=number, ignore_eos=True)
        done = engine.generate([{"prompt_token_ids": prompt}], options)
        answers.append((prompt, list(done[0].outputs[0].token_ids)))
    end = time.monotonic() + 60
    while len(sink.texts) < 3 and time.monotonic() < end:
        time.sleep(0.1)
    publisher.close()
    assert publisher.counts.missed == publisher.counts.poison == 0
    for (prompt, answer), text in zip(answers, sink.texts, strict=True):
        whole = prompt + answer[:-1]  # the last token is never computed with
        last = len(whole) - len(whole) % BLOCK
        assert text.tokens.tolist() == whole[4 * BLOCK : last]
        assert text.context.tolist() == prompt[4 * BLOCK - 8 : 4 * BLOCK]
