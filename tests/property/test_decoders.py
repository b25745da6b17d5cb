"""Streams show the text that the tokenizer gives all tokens at once, for every decoder there is."""

import dataclasses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from draftwood.draft import as_tokens  # noqa: E402
from draftwood.text.decoding import Decoding  # noqa: E402
from draftwood.text.detokenizer import UNKNOWN, Detokenizer  # noqa: E402
from draftwood.text.stream import TextStream  # noqa: E402

BYTES = [f"<0x{byte:02X}>" for byte in b"a \n\xf0\x9f\x8c\xb2\xc3\xa9\xe6\x9c\xa8\x80\xff"]
WORDS = [
    *BYTES, "▁", "▁the", "s", "##s", "##.", "</w>", "x</w>", "y</w>z", "<pad>", "|", "|a", "a",
    "aa", "b", "ab", " ", ". ", ".", " .", "'", "n't", " '", " 's", "'s", " do not", ",", "",
    "  ", UNKNOWN, "é", "Ġthe", "Ċ", "ðŁ", "Į²", "Ã", "ð",
]  # fmt: skip
SIZE = len(WORDS) + 3

REPLACE = decoders.Replace("▁", " ")
BYTE_FALLBACK = decoders.ByteFallback()
FUSE = decoders.Fuse()
DECODERS = {
    "none": None,
    "ByteLevel": decoders.ByteLevel(),
    "ByteFallback": BYTE_FALLBACK,
    "Fuse": FUSE,
    "Metaspace": decoders.Metaspace(),
    "Metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "WordPiece": decoders.WordPiece(),
    "WordPiece, as it is": decoders.WordPiece(cleanup=False),
    "BPEDecoder": decoders.BPEDecoder(),
    "CTC": decoders.CTC(),
    "CTC, as it is": decoders.CTC(cleanup=False),
    "Strip": decoders.Strip("a", 1, 0),
    "Replace": decoders.Replace("a", "bb"),
    "Replace by pattern": decoders.Replace(Regex("a+"), "Q"),
    "Llama 2": decoders.Sequence([REPLACE, BYTE_FALLBACK, FUSE, decoders.Strip(" ", 1, 0)]),
    "Gemma": decoders.Sequence([REPLACE, BYTE_FALLBACK, FUSE]),
    "Fuse, Strip": decoders.Sequence([FUSE, decoders.Strip("a", 2, 0)]),
    "Fuse, Replace": decoders.Sequence(
        [FUSE, decoders.Replace("aab", "XYZW"), decoders.Replace("a", "ss")]
    ),
    "Fuse, Replace one's own": decoders.Sequence([FUSE, decoders.Replace("aa", "b")]),
    "Fuse, Replace at the end": decoders.Sequence([FUSE, decoders.Replace(Regex("a+$"), "Q")]),
    "Fuse, BPEDecoder": decoders.Sequence([FUSE, decoders.BPEDecoder()]),
    "Fuse, Metaspace": decoders.Sequence([FUSE, decoders.Metaspace()]),
    "Fuse, WordPiece": decoders.Sequence([FUSE, decoders.WordPiece()]),
    "Fuse, CTC": decoders.Sequence([FUSE, decoders.CTC()]),
    "Fuse, ByteLevel": decoders.Sequence([FUSE, decoders.ByteLevel()]),
    "Fuse, ByteFallback": decoders.Sequence([FUSE, BYTE_FALLBACK]),
    "ByteLevel, Replace": decoders.Sequence([decoders.ByteLevel(), decoders.Replace("a", "  ")]),
    "ByteFallback, BPEDecoder": decoders.Sequence([BYTE_FALLBACK, decoders.BPEDecoder()]),
    "BPEDecoder, ByteFallback": decoders.Sequence([decoders.BPEDecoder(), BYTE_FALLBACK]),
    "CTC, ByteFallback": decoders.Sequence([decoders.CTC(), BYTE_FALLBACK]),
    "ByteFallback, WordPiece": decoders.Sequence([BYTE_FALLBACK, decoders.WordPiece()]),
    "ByteFallback, CTC": decoders.Sequence([BYTE_FALLBACK, decoders.CTC()]),
    "ByteFallback, Metaspace": decoders.Sequence([BYTE_FALLBACK, decoders.Metaspace(), FUSE]),
    "ByteFallback, ByteLevel": decoders.Sequence([BYTE_FALLBACK, decoders.ByteLevel()]),
}


def tokenizer_of(decoder, *, cleans=False):
    """A vocabulary with traps for each decoder, two special tokens and an added one."""
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="a"))
    if decoder is not None:
        raw.decoder = decoder
    raw.add_special_tokens([AddedToken("<|x|>", special=True), AddedToken("</s>", special=True)])
    raw.add_tokens([AddedToken("added aab")])
    return PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=cleans)


def some_ids(limit):
    """Ids of few kinds, so that runs and repetitions are common; one is no token at all."""
    few = st.lists(st.integers(0, SIZE), min_size=1, max_size=6)
    many_bytes = few.map(lambda ids: [*ids, *range(len(BYTES))])
    return st.one_of(few, many_bytes, st.just(list(range(SIZE)))).flatmap(
        lambda pool: st.lists(st.sampled_from(pool), max_size=limit)
    )


steps = st.lists(st.integers(1, 5), max_size=20)


@pytest.mark.parametrize("cleans", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_pieces_make_the_text_of_all_tokens(name, cleans):
    tokenizer = tokenizer_of(DECODERS[name], cleans=cleans)
    decoding = Decoding.of(tokenizer)

    @given(some_ids(100), steps)
    @settings(max_examples=60, deadline=None)
    def check(ids, sizes):
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        detokenizer, shown, at = Detokenizer(decoding), "", 0
        for size in [*sizes, *([1] * len(ids))]:
            shown += detokenizer.push(ids[at : at + size])
            assert whole.startswith(shown)
            assert shown + detokenizer.tail == tokenizer.decode(
                ids[: at + size], skip_special_tokens=True
            )
            at += size
        assert shown + detokenizer.finish() == whole

    check()


@pytest.mark.parametrize("name", DECODERS)
def test_text_ends_before_a_stop_string_at_the_first_token_that_completes_it(name):
    tokenizer = tokenizer_of(DECODERS[name])
    decoding = Decoding.of(tokenizer)

    def text_of(ids):
        return tokenizer.decode(ids, skip_special_tokens=True)

    def spelled(ids):
        return b"".join(decoding.token_bytes(token) or b"\xff" for token in ids)

    def completes(ids, stop):
        """Whether a stop string is in the text, or ends in the last of the tokens' own bytes."""
        before = len(spelled(ids[:-1]))
        whole, end = spelled(ids), stop.encode()
        ends = range(before + 1, len(whole) + 1)
        return stop in text_of(ids), any(whole[:at].endswith(end) for at in ends)

    @example([0, 3], [], 1, 1)  # a space that stands between two bytes which are no text
    @given(some_ids(50), steps, st.integers(0, 40), st.integers(1, 5))
    @settings(max_examples=40, deadline=None)
    def check(ids, sizes, begin, length):
        stop = text_of(ids)[begin : begin + length]
        if not stop or set(stop) & set(UNKNOWN + "<|x|></s>"):
            stop = "b"
        stream, at, kept, shown = TextStream(decoding, [stop]), 0, None, ""
        for size in [*sizes, *([1] * len(ids))]:
            kept = stream(as_tokens(ids[at : at + size]))
            shown += stream.take()
            if kept is not None:
                break
            at += size
        shown += stream.finish()
        first = next((n for n in range(1, len(ids) + 1) if any(completes(ids[:n], stop))), None)
        assert (None if kept is None else at + kept) == first
        whole = text_of(ids if first is None else ids[:first])
        if first is None:
            assert shown == whole
        elif completes(ids[:first], stop)[0]:
            assert shown == whole[: whole.index(stop)] or decoding.touched or decoding.last_token
        assert whole.startswith(shown)

    check()


@pytest.mark.parametrize("name", ["ByteLevel", "Llama 2", "WordPiece", "BPEDecoder", "none"])
@pytest.mark.parametrize("cleans", [False, True])
def test_long_texts_are_not_decoded_again_and_again(name, cleans):
    tokenizer = tokenizer_of(DECODERS[name], cleans=cleans)
    decoding = Decoding.of(tokenizer)
    detokenizer, longest = Detokenizer(decoding), 0
    ids = [WORDS.index(word) for word in ("▁the", "ab", " .", "y</w>z", "Ġthe", "b", "Ã")] * 100
    for token in ids:
        detokenizer.push([token])
        longest = max(longest, len(detokenizer._window))
    assert longest <= 80


def test_a_window_never_begins_within_what_a_replacement_may_take_together():
    tokenizer = tokenizer_of(DECODERS["Fuse, Replace one's own"])  # two of "a" are one "b"
    detokenizer = Detokenizer(Decoding.of(tokenizer))
    ids = [*[WORDS.index("a")] * 101, WORDS.index("s"), *[WORDS.index("a")] * 51]
    shown = "".join(detokenizer.push([token]) for token in ids)
    assert shown + detokenizer.finish() == "b" * 50 + "as" + "b" * 25 + "a"


def test_three_characters_in_bytes_come_out_whole_and_are_found():
    tokenizer = tokenizer_of(DECODERS["Llama 2"])
    tree = [WORDS.index(f"<0x{byte:02X}>") for byte in "🌲".encode()]
    ids = [*tree * 3, WORDS.index("▁the"), *tree]
    stream = TextStream(Decoding.of(tokenizer))
    assert stream(as_tokens(ids)) is None
    assert stream.take() + stream.finish() == "🌲🌲🌲 the🌲"
    stream = TextStream(Decoding.of(tokenizer), ["🌲🌲"])
    assert stream(as_tokens(ids)) == 8
    assert stream.finish() == ""


def test_a_tokenizer_that_decodes_in_a_way_of_its_own_shows_its_text_at_the_end():
    class Shouting(PreTrainedTokenizerFast):
        def _decode(self, token_ids, **options):
            return super()._decode(token_ids, **options).upper()

    plain = tokenizer_of(decoders.Fuse())
    shouting = Shouting(tokenizer_object=plain.backend_tokenizer)
    detokenizer = Detokenizer(Decoding.of(shouting))
    assert detokenizer.push([WORDS.index("ab"), WORDS.index("b")]) == ""
    assert detokenizer.finish() == "ABB"


def test_a_tokenizer_of_another_kind_is_taken_at_its_word():
    class Letters:
        def decode(self, ids, *, skip_special_tokens):
            assert skip_special_tokens
            return "".join(map(chr, ids))

    assert Decoding.of(Letters()).decode([97, 98]) == "ab"


END_TOKENS = ["<|im_start|>", "<|im_end|>", "<|tag|>"]


def marked_tokenizer(decoder, words):
    """Letters, pieces of words, bytes and three special tokens."""
    letters = ["a", "b", "c", "d", "e", "f"]
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys([*letters, *words]))}
    raw = Tokenizer(models.BPE(vocabulary, [], unk_token="a", byte_fallback=False))
    raw.decoder = decoder
    raw.add_special_tokens([AddedToken(word, special=True) for word in END_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=raw)


PIECES = ["ab", "<", "|", "im", "_end", "x", ".", "aa", "bab"]
MARKED = {
    "ByteLevel": marked_tokenizer(
        decoders.ByteLevel(), [*PIECES, "Ġthe", "Ċ", "ðŁ", "Į²", "Ã", "©"]
    ),
    "Llama 2": marked_tokenizer(DECODERS["Llama 2"], [*PIECES, *BYTES, "▁the", "▁", "é"]),
    "Gemma": marked_tokenizer(DECODERS["Gemma"], [*PIECES, *BYTES, "▁the", "▁▁", "木"]),
    "Metaspace": marked_tokenizer(decoders.Metaspace(), [*PIECES, "▁the", "▁", "é"]),
}


@pytest.mark.parametrize("name", MARKED)
def test_a_stop_string_is_found_with_the_token_with_which_transformers_finds_it(name):
    torch = pytest.importorskip("torch")
    from transformers.generation.stopping_criteria import StopStringCriteria

    tokenizer = MARKED[name]
    decoding = Decoding.of(tokenizer)
    size = len(tokenizer)
    spelled = [decoding.token_bytes(token) for token in range(size)]

    @given(
        st.lists(st.integers(0, size - 1), max_size=8),
        st.lists(st.integers(0, size - 1), min_size=1, max_size=10),
        st.integers(0, 60),
        st.sampled_from([1, 2, 3, 4, 9, 13]),
        steps,
    )
    @settings(max_examples=120, deadline=None)
    def check(prompt, ids, begin, length, sizes):
        whole = b"".join(spelled[token] for token in [*prompt, *ids])
        stop = whole[begin % len(whole) :][:length].decode(errors="ignore") or "b"
        try:
            criterion = StopStringCriteria(tokenizer=tokenizer, stop_strings=[stop])
        except ValueError:  # no token ends as the stop string does
            return
        read = ((n, torch.tensor([[*prompt, *ids[:n]]])) for n in range(1, len(ids) + 1))
        expected = next((n for n, row in read if criterion(row, None)[0]), None)
        stream, kept, shown, at = TextStream(decoding, [stop], prompt), None, "", 0
        for count in [*sizes, *([1] * len(ids))]:
            found = stream(as_tokens(ids[at : at + count]))
            shown += stream.take()
            if found is not None:
                kept = at + found
                break
            at += count
        shown += stream.finish()
        visible = tokenizer.decode(ids[: kept or len(ids)], skip_special_tokens=True)
        if kept != expected:  # it is in the text that is seen: a special token stood in it
            assert kept is not None
            assert stop in visible
            assert expected is None or kept < expected
        assert visible.startswith(shown)
        assert stop not in shown
        if kept is None:
            assert shown == visible

    check()


@pytest.mark.parametrize("name", ["Llama 2", "Gemma"])
@pytest.mark.parametrize("run", ["trees", "no text"])
def test_a_long_run_of_bytes_is_not_decoded_again_with_each_of_them(name, run):
    tokenizer = MARKED[name]
    decoding = Decoding.of(tokenizer)
    decoded = 0

    def decode(ids):
        nonlocal decoded
        decoded += len(ids)
        return decoding.decode(ids)

    spelled = [f"<0x{byte:02X}>" for byte in ("🌲".encode() if run == "trees" else b"\x80\xff")]
    ids = [*tokenizer.convert_tokens_to_ids(spelled) * 500, tokenizer.convert_tokens_to_ids("a")]
    stream = TextStream(dataclasses.replace(decoding, decode=decode), ["🌲b", "ab"])
    assert stream(as_tokens(ids)) is None
    assert decoded < 8 * len(ids)
    shown = stream.take()
    assert shown + stream.finish() == tokenizer.decode(ids)


def test_a_long_run_of_bytes_that_are_no_text_is_not_kept():
    tokenizer = MARKED["ByteLevel"]
    detokenizer = Detokenizer(Decoding.of(tokenizer))
    ids = tokenizer.convert_tokens_to_ids(["Ã", "ðŁ"]) * 300
    shown, longest = "", 0
    for token in ids:
        shown += detokenizer.push([token])
        longest = max(longest, len(detokenizer._window))
    assert shown + detokenizer.finish() == tokenizer.decode(ids)
    assert longest < 200
