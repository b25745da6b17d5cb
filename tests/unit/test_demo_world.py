"""The demo's world, tokenizer, workload, training and bundled model."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.demo import stages
from draftwood.demo.faults import inject
from draftwood.demo.model import target_path
from draftwood.demo.questions import KINDS, make_question
from draftwood.demo.schema import is_held_out, make_database, make_schema, split_of
from draftwood.demo.sqlite import run
from draftwood.demo.words import COLUMNS, DOMAINS
from draftwood.demo.words import KINDS as ENTITY_KINDS
from draftwood.demo.workload import workload
from draftwood.demo.world import episode, episodes

needs_model = pytest.mark.skipif(
    not (target_path() / "model.safetensors").exists(), reason="the demo's model is not built"
)


def made(seed: int, split: str = "train"):
    rng = Random(seed)
    return rng, make_database(rng, make_schema(rng, split))


# --- world


def test_same_seed_gives_same_episodes_and_another_seed_others() -> None:
    assert list(islice(episodes(5), 20)) == [episode(5, i) for i in range(20)]
    assert episode(5, 0) != episode(6, 0)
    assert episode(5, 0) != episode(5, 0, split="held-out")


def test_the_world_is_the_same_on_every_platform() -> None:
    text = episode(0, 0).database.schema.text
    assert text == (
        "database health\n"
        "table patients: patient_id int, city text, rank int, name text, clinic_id int\n"
        "table clinics: clinic_id int, start_year int, area int, country text, depth int, code text"
    )


def test_training_and_held_out_schemas_are_disjoint() -> None:
    train = [make_schema(Random(i), "train") for i in range(1000)]
    held = [make_schema(Random(i), "held-out") for i in range(1000)]
    assert not any(is_held_out(*pair) for schema in train for pair in schema.pairs)
    assert all(any(is_held_out(*pair) for pair in schema.pairs) for schema in held)
    assert {split_of(s) for s in train} == {"train"}
    assert {split_of(s) for s in held} == {"held-out"}
    assert not {s.text for s in train} & {s.text for s in held}


def test_the_world_holds_thousands_of_schemas() -> None:
    assert len({make_schema(Random(i), "train").text for i in range(2000)}) > 1990


def test_every_kind_of_entity_keeps_a_label_a_text_and_a_number_for_training() -> None:
    for entities in DOMAINS.values():
        for entity in entities:
            kept = [c for c in ENTITY_KINDS[entity.kind] if not is_held_out(entity.plural, c)]
            assert sum(COLUMNS[c].type != "text" for c in kept) >= 2, entity


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("kind", KINDS)
def test_gold_sql_runs_and_its_alternate_gives_the_same_rows(kind: str, split: str) -> None:
    for seed in range(60):
        rng, data = made(seed, split)
        question = make_question(rng, data, kind)
        with closing(data.connect()) as connection:
            answer = run(connection, question.sql)
            assert not answer.error, (question, answer)
            if question.alternate:
                assert run(connection, question.alternate).same(answer), question
            assert bool(question.alternate) == (question.level == "hard")


def test_filters_and_joins_on_one_condition_find_rows() -> None:
    found = 0
    for seed in range(200):
        rng, data = made(seed)
        with closing(data.connect()) as connection:
            found += bool(run(connection, make_question(rng, data, "filter").sql).rows)
    assert found > 180


def test_injected_faults_fail_or_change_the_rows() -> None:
    names = set()
    for seed in range(400):
        rng, data = made(seed)
        question = make_question(rng, data)
        with closing(data.connect()) as connection:
            fault = inject(rng, data.schema, question, question.sql, connection)
            if fault is None:
                continue
            names.add(fault.name)
            again, right = run(connection, fault.sql), run(connection, question.sql)
            assert again == fault.answer
            assert again.error or not again.same(right, ordered=question.ordered)
    assert len(names) == 10


def test_a_repair_that_shows_a_fault_asks_for_the_right_query() -> None:
    broken = 0
    for index in range(200):
        for request in episode(1, index).requests:
            repair = request.exchanges[3]
            tried = repair.user.split("tried: ")[1].split("\n")[0]
            assert repair.response in (request.question.sql, request.question.alternate)
            broken += tried != repair.response
    assert 150 < broken < 300


def test_sql_cannot_write_and_a_runaway_query_is_stopped() -> None:
    _, data = made(0)
    with closing(data.connect()) as connection:
        table = data.schema.tables[0].name
        assert "readonly" in run(connection, f"DELETE FROM {table}").error
        many = ", ".join(f"{table} AS t{i}" for i in range(9))
        assert run(connection, f"SELECT COUNT(*) FROM {many}").error == "interrupted"
        assert run(connection, "SELECT '\0").error
        assert run(connection, "").rows == ()


def test_the_world_loads_no_machine_learning_library() -> None:
    code = (
        "import sys, draftwood.demo.workload, draftwood.demo.model;"
        "print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


# --- workload


def gold(request, stage: str, step: int) -> str:
    """Right answers, as a perfect model would give them."""
    question, schema = request.question, request.database.schema
    candidates = [sql for sql in (question.sql, question.alternate) if sql]
    if stage == "classify":
        return stages.classify_response(question)
    if stage == "extract":
        return stages.extract_response(schema, question)
    if stage == "draft":
        return stages.draft_response(candidates)
    return candidates[step - 3] if stage == "repair" else f"final 1: {question.sql}\nresult: 1"


def test_workload_chains_the_answers_and_is_deterministic() -> None:
    def prompts(seed: int) -> list[str]:
        found = []
        for request in workload(seed, 30):
            answers: list[str] = []
            for step, call in enumerate(request.calls):
                found.append(call.prompt(answers))
                answers.append(gold(request, call.stage, step))
            assert request.final(answers) == request.question.sql
            assert answers[1] in found[-1]
            assert answers[3] in found[-1]
        return found

    assert prompts(3) == prompts(3) != prompts(4)


def test_workload_has_few_databases_all_held_out_and_many_questions() -> None:
    requests = list(workload(0, 60))
    assert 3 <= len({request.session for request in requests}) <= 6
    assert {split_of(request.database.schema) for request in requests} == {"held-out"}
    assert len({request.question.text for request in requests}) > 45


def test_workload_takes_any_answer_from_the_model() -> None:
    for request in workload(1, 10):
        for junk in ("", "\n\n", "1: SELECT", "drop table; \0 '"):
            answers: list[str] = []
            for call in request.calls:
                assert call.prompt(answers).endswith(stages.ASSISTANT)
                answers.append(junk)
            assert isinstance(request.final(answers), str)


# --- tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("tokenizers")
    from draftwood.demo.tokenizer import train_tokenizer

    return train_tokenizer(sampled=100)


@settings(max_examples=100)
@given(st.text())
def test_any_text_survives_the_tokenizer(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_identifiers_are_few_tokens(tokenizer) -> None:
    for entities in DOMAINS.values():
        for entity in entities:
            assert len(tokenizer.encode(f" {entity.plural}").ids) == 1
            assert len(tokenizer.encode(f" {entity.singular}_id").ids) == 2
    for column in COLUMNS:
        assert len(tokenizer.encode(f" {column}").ids) == column.count("_") + 1


def test_the_chat_template_renders_the_prompts(tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from draftwood.demo.tokenizer import save_tokenizer

    save_tokenizer(tokenizer, tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    exchange = episode(0, 0).requests[0].exchanges[3]
    messages = [
        {"role": "system", "content": exchange.system},
        {"role": "user", "content": exchange.user},
    ]
    text = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == exchange.prompt
    assert loaded.eos_token == stages.END
    ids = loaded(exchange.prompt)["input_ids"]
    assert ids == tokenizer.encode(exchange.prompt).ids
    assert loaded.decode(ids) == exchange.prompt


# --- training


def test_packs_give_the_rows_of_separate_sequences(tokenizer) -> None:
    torch = pytest.importorskip("torch")
    from draftwood.demo.training.train import Recipe, make_model, make_pack

    recipe = Recipe(width=16, heads=2, layers=2, inner=24)
    pack = make_pack(recipe, tokenizer, 0)
    model = make_model(recipe, tokenizer).eval()
    with torch.inference_mode():
        whole = model(
            input_ids=torch.from_numpy(pack.tokens.astype(np.int64))[None],
            position_ids=torch.from_numpy(pack.depths.astype(np.int64))[None],
            attention_mask=torch.from_numpy(pack.ancestors)[None, None],
        ).logits[0]
        for nodes in pack.responses[2:8:2]:
            path, node = [], int(nodes[-1])
            while node >= 0:
                path.append(node)
                node = int(pack.parents[node])
            path.reverse()
            ids = torch.from_numpy(pack.tokens[path].astype(np.int64))[None]
            torch.testing.assert_close(model(input_ids=ids).logits[0], whole[path])


def test_two_short_runs_give_the_same_weights_and_a_resumed_one_too(tokenizer, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from draftwood.demo.training.train import Recipe, Trainer

    recipe = Recipe(width=16, heads=2, layers=1, inner=24, packs=1, chunk=2, steps=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, second = Trainer(recipe, tokenizer), Trainer(recipe, tokenizer)
        losses = list(first.run())
        assert list(second.run(until=2)) == losses[:2]
        second.save(tmp_path)
        third = Trainer(replace(recipe), tokenizer)
        third.resume(tmp_path)
        assert list(third.run()) == losses[2:]
        assert first.tokens == third.tokens
        for a, b in zip(first.model.parameters(), third.model.parameters(), strict=True):
            assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


# --- the bundled model


@needs_model
def test_the_bundled_model_loads_offline_and_answers_in_the_right_form(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer = transformers.AutoTokenizer.from_pretrained(target_path())
    model = transformers.AutoModelForCausalLM.from_pretrained(target_path()).eval()
    assert model.dtype == torch.float32
    assert model.config.max_position_embeddings >= 2048
    right = 0
    for index in range(6):
        exchange = episode(9, index, split="held-out").requests[0].exchanges[0]
        inputs = tokenizer(exchange.prompt, return_tensors="pt")
        out = model.generate(inputs["input_ids"], max_new_tokens=40, do_sample=False)[0]
        assert out[-1] == tokenizer.eos_token_id
        response = tokenizer.decode(out[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert response.startswith("kind: ")
        right += response == exchange.response
    assert right >= 4


@needs_model
def test_the_bundled_model_fits_the_package() -> None:
    assert sum(f.stat().st_size for f in target_path().iterdir()) <= 9 * 2**20
