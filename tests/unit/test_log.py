from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from draftwood.errors import TraceError
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer

WORDS = {word: i for i, word in enumerate(["?", "the", "cat", "sees", "a", "dog"])}


def word_tokenizer(*special: str) -> Tokenizer:
    """Ids: the words of `WORDS`, then the special tokens."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    return tokenizer


def saved(folder: Path, tokenizer: Tokenizer, **files: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def written(path: Path, *records: dict | str) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path, tokenizer: TraceTokenizer | None = None):
    """The records as (prompt, response, session), and the problems."""
    log = Log(path, tokenizer)
    records = [(r.prompt.tolist(), r.response.tolist(), r.session) for r in log]
    return records, log.unread.lines()


def ids(prompt, response, **more):
    return {"prompt": prompt, "response": response, **more}


def test_token_ids_are_read_under_both_names(tmp_path):
    path = written(
        tmp_path / "t.jsonl",
        ids([1, 2], [3]),
        {"prompt_tokens": [4], "response_tokens": [5, 6], "prompt": "the", "response": "cat"},
    )
    assert read(path) == ([([1, 2], [3], None), ([4], [5, 6], None)], [])


def test_texts_are_tokenized_and_responses_end_with_the_end_token(tmp_path):
    tokenizer = TraceTokenizer(word_tokenizer("<end>"), end_token=6)
    path = written(tmp_path / "t.jsonl", ids("the cat", "sees a dog"), ids("a", "dog <end>"))
    assert read(path, tokenizer)[0] == [([1, 2], [3, 4, 5, 6], None), ([4], [5, 6], None)]


def test_without_an_end_token_responses_stay_as_recorded(tmp_path):
    path = written(tmp_path / "t.jsonl", ids("the", "cat"))
    assert read(path, TraceTokenizer(word_tokenizer()))[0] == [([1], [2], None)]


def test_ids_get_the_end_token_too_where_there_is_a_tokenizer(tmp_path):
    path = written(tmp_path / "t.jsonl", ids([1], [2]), ids([1], [2, 6]))
    records, _ = read(path, TraceTokenizer(word_tokenizer("<end>"), end_token=6))
    assert [response for _, response, _ in records] == [[2, 6], [2, 6]]


def test_a_delta_stands_behind_its_sessions_earlier_turns(tmp_path):
    delta = {"prompt_mode": "reconstructed-delta"}
    path = written(
        tmp_path / "t.jsonl",
        ids([1], [2], session="a", prompt_mode="full"),
        ids([7], [8], session="b"),
        ids([3], [4], session="a", **delta),
        ids([5], [6], session="a", **delta),
        ids([9], [9], session="b", **delta),
    )
    prompts = [prompt for prompt, _, _ in read(path)[0]]
    assert prompts == [[1], [7], [1, 2, 3], [1, 2, 3, 4, 5], [7, 8, 9]]


def test_a_delta_without_a_session_or_a_first_turn_stands_alone(tmp_path):
    delta = {"prompt_mode": "delta"}
    path = written(tmp_path / "t.jsonl", ids([1], [2], **delta), ids([3], [4], session=0, **delta))
    assert read(path)[0] == [([1], [2], None), ([3], [4], "0")]


def test_a_full_prompt_is_taken_as_it_is_though_its_session_has_begun(tmp_path):
    path = written(tmp_path / "t.jsonl", ids([1], [2], session="a"), ids([3], [4], session="a"))
    assert [prompt for prompt, _, _ in read(path)[0]] == [[1], [3]]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_compressed_files_read_the_same(tmp_path, ending):
    raw = json.dumps(ids([1], [2])).encode() + b"\n"
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path = tmp_path / f"some.trace{ending}"
    path.write_bytes(pack.get(path.suffix, bytes)(raw))
    assert read(path) == ([([1], [2], None)], [])
    assert Log(path).name == "some.trace"


def test_more_records_than_a_batch_keep_their_order(tmp_path):
    path = written(tmp_path / "t.jsonl", *(ids([n], [n]) for n in range(1000)))
    assert [prompt for prompt, _, _ in read(path)[0]] == [[n] for n in range(1000)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": [1], "resp', "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"prompt": [1]}', "no response; give response as text or response_tokens"),
        ('{"prompt": 3, "response": [1]}', "prompt is 3; give text or a list of token ids"),
        ('{"prompt": [1], "response": [-4]}', "response: token id -4 is outside [0, 2147483647]"),
        ('{"prompt": [99999999999], "response": [1]}', "token id 99999999999 is outside"),
        ('{"prompt": [1.5], "response": [1]}', "token ids have type float64; pass integers"),
        ('{"prompt": [[1], [2, 3]], "response": [1]}', "prompt: "),
        ('{"prompt": [], "response": [1]}', "the prompt has 0 tokens"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"prompt": "half \\ud83d", "response": [1]}', "prompt is no Unicode text"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_the_others_are_kept(tmp_path, line, reason):
    path = tmp_path / "t.jsonl"
    good = json.dumps(ids([1], [2])).encode()
    path.write_bytes(b"\n".join([good, b"", line.encode("latin-1"), good, b""]))
    records, problems = read(path)
    assert len(records) == 2
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:3: ")
    assert reason in problems[0]


def test_ids_beyond_the_tokenizers_vocabulary_are_a_bad_line(tmp_path):
    path = written(tmp_path / "t.jsonl", ids([1], [6]), ids([1], [5]))
    records, problems = read(path, TraceTokenizer(word_tokenizer()))
    assert [response for _, response, _ in records] == [[5]]
    assert "t.jsonl:1: response: token id 6 is outside [0, 5]" in problems[0]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_cut_file_keeps_the_lines_before_the_damage(tmp_path, ending):
    raw = b"".join(json.dumps(ids([n, n * n], [n])).encode() + b"\n" for n in range(20_000))
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    packed = pack[ending](raw)
    path = tmp_path / f"t.jsonl{ending}"
    path.write_bytes(packed[: len(packed) // 2])
    records, problems = read(path)
    assert 0 < len(records) < 20_000
    assert len(problems) == 1


def test_text_without_a_tokenizer_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(TraceError, match="holds text; pass --tokenizer"):
        read(written(tmp_path / "t.jsonl", ids("the", "cat")))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"cannot read .*nowhere\.jsonl \(No such file"):
        read(tmp_path / "nowhere.jsonl")


def test_the_fraction_read_grows_from_0(tmp_path):
    path = written(tmp_path / "t.jsonl", *(ids([n], [n]) for n in range(50_000)))
    trace = Log(path)
    assert trace.fraction_read == 0.0
    seen = [trace.fraction_read for _ in trace]
    assert 0 < seen[0] < 0.5
    assert seen == sorted(seen)
    assert 0.9 < seen[-1] <= 1


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"eos_token": "<end>"}},
        {"tokenizer_config": {"eos_token": {"content": "<end>"}}},
        {"special_tokens_map": {"eos_token": "<end>"}},
        {"config": {"eos_token_id": 6}},
        {"generation_config": {"eos_token_id": [6, 7]}},
    ],
)
def test_the_end_token_is_what_the_models_files_say(tmp_path, files):
    folder = saved(tmp_path, word_tokenizer("<end>", "</s>"), **files)
    assert TraceTokenizer.load(folder).end_token == 6
    assert TraceTokenizer.load(folder / "tokenizer.json").end_token == 6


def test_a_lone_tokenizer_file_ends_with_a_well_known_special_token(tmp_path):
    assert TraceTokenizer.load(saved(tmp_path / "a", word_tokenizer("<x>", "</s>"))).end_token == 7
    assert TraceTokenizer.load(saved(tmp_path / "b", word_tokenizer("<x>"))).end_token is None


def test_what_is_no_tokenizer_is_named(tmp_path):
    with pytest.raises(TraceError, match="no tokenizer at"):
        TraceTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TraceError, match=r"is no tokenizer\.json"):
        TraceTokenizer.load(tmp_path)
