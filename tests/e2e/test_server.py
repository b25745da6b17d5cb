"""The server answers as `llm.generate` does: alone, among others, in pieces and whole."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import draftwood as dw

pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
openai = pytest.importorskip("openai", reason="pip install openai")
httpx = pytest.importorskip("httpx2", reason="openai's client brings it")
from serving import served, until  # noqa: E402

from draftwood.server.limits import ServerLimits  # noqa: E402

CHAT = [
    {"role": "system", "content": "database film\ntable films: film_id int, title text, year int"},
    {"role": "user", "content": "question: List the titles of all films.\ntask: classify"},
]
TEXT = "SELECT title FROM films WHERE year ="


@pytest.fixture(scope="module")
def llm():
    with dw.load("demo", cost="none") as model:
        yield model


@pytest.fixture(scope="module")
def server(llm):
    with served(llm) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0) as made:
        yield made


ENDLESS = {"max_tokens": 2000, "logit_bias": {"1": -100}, "draftwood": {"drafts": False}}
"""It does not end by itself, and takes its time."""

ASKED = {
    "greedy": ({}, {}),
    "seeded": ({"temperature": 1.0, "seed": 7}, {"temperature": 1.0, "seed": 7}),
    "top_p": (
        {"temperature": 0.8, "top_p": 0.9, "seed": 1},
        {"temperature": 0.8, "top_p": 0.9, "seed": 1},
    ),
    "of vLLM": (
        {
            "temperature": 1.0,
            "seed": 3,
            "extra_body": {"top_k": 5, "min_p": 0.02, "repetition_penalty": 1.2},
        },
        {"temperature": 1.0, "seed": 3, "top_k": 5, "min_p": 0.02, "repetition_penalty": 1.2},
    ),
    "stop": ({"stop": ["e", "t"]}, {"stop": ["e", "t"]}),
    "logit_bias": ({"logit_bias": {"40": 30}}, {"logit_bias": {40: 30.0}}),
    "prediction": (
        {"prediction": {"type": "content", "content": "kind: list, level: easy"}},
        {"prediction": "kind: list, level: easy"},
    ),
    "without drafts": ({"extra_body": {"draftwood": {"drafts": False}}}, {"drafter": "none"}),
}


def streamed(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("name", ASKED)
def test_a_chat_is_answered_as_by_generate(client, llm, name):
    asked, options = ASKED[name]
    expected = llm.generate(CHAT, max_tokens=24, **options)
    done = client.chat.completions.create(model="demo", messages=CHAT, max_tokens=24, **asked)
    assert done.choices[0].message.content == expected.text
    assert done.choices[0].finish_reason == expected.finish
    assert done.usage.completion_tokens == len(expected.tokens)
    assert done.usage.prompt_tokens == expected.prompt_tokens
    pieces = client.chat.completions.create(
        model="demo", messages=CHAT, max_tokens=24, stream=True, **asked
    )
    assert streamed(pieces) == expected.text


@pytest.mark.parametrize("name", ASKED)
def test_a_completion_is_that_of_generate(client, llm, name):
    asked, options = ASKED[name]
    if "prediction" in asked:  # not among the arguments of this method of the client's
        asked = {"extra_body": {"prediction": asked["prediction"]}}
    expected = llm.generate(TEXT, max_tokens=20, chat=False, **options)
    done = client.completions.create(model="demo", prompt=TEXT, max_tokens=20, **asked)
    assert done.choices[0].text == expected.text
    pieces = client.completions.create(
        model="demo", prompt=TEXT, max_tokens=20, stream=True, **asked
    )
    assert "".join(piece.choices[0].text for piece in pieces) == expected.text


def test_texts_among_others_are_those_of_generate(client, llm):
    def ask(number):
        options = {"temperature": 1.0, "seed": number} if number % 2 else {}
        done = client.completions.create(
            model="demo", prompt=f"{TEXT} {number}", max_tokens=10 + number, **options
        )
        return done.choices[0].text, llm.generate(
            f"{TEXT} {number}", max_tokens=10 + number, chat=False, **options
        )

    with ThreadPoolExecutor(12) as threads:
        for text, expected in threads.map(ask, range(24)):
            assert text == expected.text


def test_several_choices_are_drawn_with_consecutive_seeds(client, llm):
    expected = llm.generate(CHAT, max_tokens=12, temperature=1.0, seed=5, n=3)
    done = client.chat.completions.create(
        model="demo", messages=CHAT, max_tokens=12, temperature=1.0, seed=5, n=3
    )
    assert [each.message.content for each in done.choices] == [each.text for each in expected]
    assert done.usage.prompt_tokens == expected[0].prompt_tokens
    pieces = list(
        client.chat.completions.create(
            model="demo", messages=CHAT, max_tokens=12, temperature=1.0, seed=5, n=3, stream=True
        )
    )
    for index, each in enumerate(expected):
        own = [piece for piece in pieces if piece.choices[0].index == index]
        assert streamed(own) == each.text


def test_several_prompts_are_several_choices(client, llm):
    prompts = [TEXT, "SELECT", "UPDATE"]
    done = client.completions.create(model="demo", prompt=prompts, max_tokens=9)
    expected = llm.generate(prompts, max_tokens=9, chat=False)
    assert [each.text for each in done.choices] == [each.text for each in expected]
    ids = [llm.encode(each, chat=False).tolist() for each in prompts]
    same = client.completions.create(model="demo", prompt=ids, max_tokens=9)
    assert [each.text for each in same.choices] == [each.text for each in expected]


def test_logprobs_are_those_of_generate(client, llm):
    expected = llm.generate(CHAT, max_tokens=10, logprobs=2).logprobs
    done = client.chat.completions.create(
        model="demo", messages=CHAT, max_tokens=10, logprobs=True, top_logprobs=2
    )
    content = done.choices[0].logprobs.content
    assert [each.logprob for each in content] == pytest.approx(expected.chosen.tolist(), abs=1e-4)
    assert [len(each.top_logprobs) for each in content] == [2] * 10
    assert bytes(byte for each in content for byte in each.bytes).decode() == (
        done.choices[0].message.content
    )
    pieces = client.chat.completions.create(
        model="demo", messages=CHAT, max_tokens=10, logprobs=True, top_logprobs=2, stream=True
    )
    parts = [each for piece in pieces if (each := piece.choices[0].logprobs) is not None]
    assert [one.logprob for part in parts for one in part.content] == pytest.approx(
        expected.chosen.tolist(), abs=1e-4
    )
    other = client.completions.create(model="demo", prompt=TEXT, max_tokens=6, logprobs=3)
    shown = other.choices[0].logprobs
    assert "".join(shown.tokens) == other.choices[0].text
    assert all(len(top) == 3 for top in shown.top_logprobs)
    assert shown.text_offset[0] == 0
    assert shown.text_offset == sorted(shown.text_offset)


def test_penalties_make_what_was_said_less_likely(client):
    def text(**asked):
        done = client.completions.create(model="demo", prompt=TEXT, max_tokens=30, **asked)
        return done.choices[0].text

    plain, varied = text(), text(frequency_penalty=2.0, presence_penalty=2.0)
    assert varied != plain
    drafts = {"extra_body": {"draftwood": {"drafts": False}}}
    assert varied == text(frequency_penalty=2.0, presence_penalty=2.0, **drafts)


def test_the_usage_of_a_prediction_tells_what_came_of_it(client):
    said = client.chat.completions.create(model="demo", messages=CHAT, max_tokens=24)
    assert said.usage.completion_tokens_details is None
    answer = said.choices[0].message.content
    done = client.chat.completions.create(
        model="demo",
        messages=CHAT,
        max_tokens=24,
        user="somebody who was never here",
        prediction={"type": "content", "content": answer},
    )
    assert done.choices[0].message.content == answer
    assert done.usage.completion_tokens_details.accepted_prediction_tokens > 0
    assert done.usage.completion_tokens_details.rejected_prediction_tokens >= 0
    *_, last = client.chat.completions.create(
        model="demo",
        messages=CHAT,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
        prediction={"type": "content", "content": [{"type": "text", "text": answer}]},
    )
    assert last.usage.completion_tokens == said.usage.completion_tokens
    assert last.usage.completion_tokens_details is not None


def test_each_token_says_where_it_came_from(client):
    chunks = client.completions.create(
        model="demo",
        prompt=TEXT,
        max_tokens=40,
        stream=True,
        extra_body={"draftwood": {"origins": True}},
    )
    tokens, text = [], ""
    for chunk in chunks:
        text += chunk.choices[0].text
        tokens += chunk.choices[0].draftwood["tokens"]
    assert "".join(token["text"] for token in tokens) == text
    assert {token["accepted"]["kind"] for token in tokens if "accepted" in token} <= {
        "own text",
        "shared history",
    }
    assert any("accepted" in token for token in tokens)
    assert all(0 <= token["accepted"]["confidence"] <= 1 for token in tokens if "accepted" in token)


def test_figures_of_a_request_bear_the_names_that_benchmark_tools_read(client):
    done = client.completions.create(model="demo", prompt=TEXT, max_tokens=40)
    figures = done.metrics["speculative_decoding"]
    assert set(figures) == {
        "mean_acceptance_length",
        "draft_acceptance_rate",
        "acceptance_histogram",
        "num_spec_steps",
        "num_accepted_draft_tokens",
        "num_draft_tokens",
    }
    histogram = figures["acceptance_histogram"]
    assert sum(histogram) == figures["num_spec_steps"]
    accepted = sum(count * steps for count, steps in enumerate(histogram))
    assert accepted == figures["num_accepted_draft_tokens"] > 0


def test_metrics_are_named_as_those_of_vllm_and_tell_the_source(client, server):
    client.completions.create(model="demo", prompt=TEXT, max_tokens=20)
    page = httpx.get(f"{server.url}/metrics").text
    for name in (
        "vllm:num_requests_running",
        "vllm:generation_tokens_total",
        "vllm:spec_decode_num_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total",
        "vllm:time_to_first_token_seconds_count",
    ):
        assert f"\n{name}{{" in page
    assert 'draftwood:accepted_tokens_total{model_name="demo",source="recall: ' in page


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_seat(server, path, stream):
    asked = {"model": "demo", "n": 8, "stream": stream, **ENDLESS}
    asked |= {"prompt": TEXT} if path == "/v1/completions" else {"messages": CHAT}
    with httpx.Client(timeout=0.5 if not stream else 30) as client:
        if stream:
            with client.stream("POST", server.url + path, json=asked) as answer:
                next(answer.iter_text())
                until(lambda: server.engine.running + server.engine.waiting == 8)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(server.url + path, json=asked)
    until(server.idle)


def test_a_full_queue_is_said_and_when_to_come_back(llm):
    limits = ServerLimits(max_batch=1, max_waiting=1, max_choices=2)
    asked = {"prompt": TEXT, "stream": True, "n": 2, **ENDLESS}
    with (
        served(llm, limits=limits) as small,
        httpx.Client(base_url=small.v1) as client,
        client.stream("POST", "/completions", json=asked) as running,
    ):
        pieces = running.iter_text()
        next(pieces)
        refused = client.post("/completions", json={"prompt": TEXT})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
    with (
        served(llm, limits=limits) as small,
        openai.OpenAI(base_url=small.v1, api_key="none", max_retries=0) as made,
        pytest.raises(openai.BadRequestError, match="send several requests"),
    ):
        made.completions.create(model="demo", prompt=TEXT, n=3)


def test_what_is_wrong_is_said_in_the_shape_of_openai(client):
    with pytest.raises(openai.NotFoundError, match="this server has 'demo'") as unknown:
        client.completions.create(model="gpt", prompt=TEXT)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="max_tokens is 1000000, more than"):
        client.completions.create(model="demo", prompt=TEXT, max_tokens=1_000_000)
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions.create(model="demo", prompt="SELECT " * 3000, max_tokens=4)
    with pytest.raises(openai.BadRequestError, match="logit_bias names token 99999"):
        client.completions.create(model="demo", prompt=TEXT, logit_bias={"99999": 1})
    with pytest.raises(openai.BadRequestError) as field:
        client.completions.create(model="demo", prompt=TEXT, temperature=-1)
    assert field.value.param == "temperature"


def test_running_texts_are_returned_as_they_are_when_the_server_stops(llm):
    asked = {"prompt": TEXT, **ENDLESS}
    with served(llm) as stopped, ThreadPoolExecutor(1) as thread:
        answer = thread.submit(
            lambda: httpx.post(f"{stopped.v1}/completions", json=asked, timeout=60).json()
        )
        until(lambda: stopped.engine.running == 1)
        stopped.engine.drain()
        refused = httpx.post(f"{stopped.v1}/completions", json={"prompt": TEXT})
        assert refused.status_code == 503
        assert httpx.get(f"{stopped.url}/health").status_code == 503
        stopped.engine.cut()
        choice = answer.result()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["draftwood"] == {"ended_by": "shutdown"}
    whole = llm.generate(TEXT, max_tokens=1000, chat=False, logit_bias={1: -100.0}).text
    assert whole.startswith(choice["text"][:1000])
