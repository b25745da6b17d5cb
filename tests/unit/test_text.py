import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.draft import as_tokens
from draftwood.errors import InvalidOption
from draftwood.testing import ByteTokenizer
from draftwood.text.decoding import Decoding
from draftwood.text.detokenizer import Detokenizer
from draftwood.text.stream import TextStream
from draftwood.text.token_bytes import TokenBytes

BYTES = ByteTokenizer()
AS_BYTES = Decoding(BYTES.decode)
SPACES = {0: "▁the", 1: "▁cat", 2: "s", 3: "▁", 4: ".", 5: "", 6: "▁\ufffd"}


def decode_with_spaces(ids):
    """SentencePiece style: a word carries its space, the first space of the text is dropped."""
    return "".join(SPACES[i] for i in ids).replace("▁", " ").removeprefix(" ")


def pieces_of(decode, ids, sizes):
    detokenizer, pieces, at = Detokenizer(Decoding(decode)), [], 0
    for size in sizes:
        pieces.append(detokenizer.push(ids[at : at + size]))
        at += size
    return [*pieces, detokenizer.push(ids[at:]), detokenizer.finish()]


steps = st.lists(st.integers(1, 5), max_size=40)


@given(st.lists(st.integers(0, 256), max_size=120), steps)
@settings(max_examples=300, deadline=None)
def test_pieces_make_the_full_text_of_any_bytes(ids, sizes):
    assert "".join(pieces_of(BYTES.decode, ids, sizes)) == BYTES.decode(ids)


@given(st.text(max_size=60), steps)
def test_no_piece_holds_half_a_character(text, sizes):
    pieces = pieces_of(BYTES.decode, BYTES.encode(text), sizes)
    assert "".join(pieces) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.sampled_from(sorted(SPACES)), max_size=150), steps)
@settings(deadline=None)
def test_spaces_between_words_survive_where_a_tokenizer_drops_the_first(ids, sizes):
    assert "".join(pieces_of(decode_with_spaces, ids, sizes)) == decode_with_spaces(ids)


def test_a_character_of_four_bytes_comes_with_its_last_byte():
    detokenizer = Detokenizer(AS_BYTES)
    assert [detokenizer.push([byte]) for byte in "a🌲b".encode()] == ["a", "", "", "", "🌲", "b"]


def test_a_character_that_never_ends_is_shown_at_the_end():
    detokenizer = Detokenizer(AS_BYTES)
    assert detokenizer.push(list(b"ok\xf0\x9f")) == "ok"
    assert detokenizer.finish() == "\ufffd"


def test_a_long_text_is_not_decoded_again_and_again():
    longest = 0

    def decode(ids):
        nonlocal longest
        longest = max(longest, len(ids))
        return BYTES.decode(ids)

    detokenizer = Detokenizer(Decoding(decode))
    text = "a tree, in code: 木\n" * 50
    assert "".join(detokenizer.push([byte]) for byte in text.encode()) == text
    assert longest < 80


def shared_tokenizers():
    folder = os.environ.get("DRAFTWOOD_TOKENIZERS")
    return sorted(Path(folder).glob("*/tokenizer.json")) if folder else []


@pytest.mark.skipif(not shared_tokenizers(), reason="DRAFTWOOD_TOKENIZERS names no folder")
@pytest.mark.parametrize("path", shared_tokenizers(), ids=lambda path: path.parent.name)
def test_pieces_make_the_full_text_of_real_tokenizers(path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))

    @given(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=80), steps)
    @settings(max_examples=150, deadline=None)
    def check(ids, sizes):
        assert "".join(pieces_of(tokenizer.decode, ids, sizes)) == tokenizer.decode(ids)

    check()


def run(stream, steps):
    """Feed steps of text; the pieces after each, and how many tokens were kept of the last."""
    pieces = []
    for step in steps:
        kept = stream(as_tokens(BYTES.encode(step)))
        pieces.append(stream.take())
        if kept is not None:
            return [*pieces, stream.finish()], kept
    return [*pieces, stream.finish()], None


def test_text_ends_before_a_stop_string_within_a_step():
    assert run(TextStream(AS_BYTES, ["END"]), ["one", " END two"]) == (
        ["one", " ", ""],
        4,
    )


def test_a_stop_string_across_steps_is_never_shown():
    stream = TextStream(AS_BYTES, ["</s>"])
    assert run(stream, ["a<", "/", "s", "> b"]) == (["a", "", "", "", ""], 1)


def test_what_only_began_like_a_stop_string_is_shown_in_the_end():
    stream = TextStream(AS_BYTES, ["</s>"])
    assert run(stream, ["a<", "/", "b", "</"]) == (["a", "", "</b", "", "</"], None)


def test_the_earliest_of_several_stop_strings_cuts_the_text():
    stream = TextStream(AS_BYTES, ["cat", "at sees"])
    assert run(stream, ["the cat sees"]) == (["the ", ""], 7)
    stream = TextStream(AS_BYTES, ["at", "cat"])
    assert run(stream, ["the cat sees"]) == (["the ", ""], 7)


def test_a_stop_string_that_ends_in_an_unfinished_character_is_found_at_the_end():
    stream = TextStream(AS_BYTES, ["b\ufffd"])
    assert stream(as_tokens(list(b"ab\xf0\x9f"))) is None
    assert stream.take() + stream.finish() == "a"


@given(
    st.text("ab", max_size=40), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3), steps
)
def test_text_is_cut_where_the_first_stop_string_is_complete(text, stops, sizes):
    stream, at, shown, kept = TextStream(AS_BYTES, stops), 0, "", None
    for size in [*sizes, *([1] * len(text))]:
        step = text[at : at + size]
        if not step:
            break
        kept = stream(as_tokens(BYTES.encode(step)))
        shown += stream.take()
        if kept is not None:
            break
        at += size
    ends = [len(text[:end]) for end in range(len(text) + 1) if any(s in text[:end] for s in stops)]
    shown += stream.finish()
    if ends:
        starts = [text.find(s) for s in stops if s in text[: ends[0]]]
        assert (shown, at + kept) == (text[: min(starts)], ends[0])
    else:
        assert (shown, kept) == (text, None)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(InvalidOption, match="stop string is empty"):
        TextStream(AS_BYTES, ["x", ""])
    with pytest.raises(InvalidOption, match="stop string is empty"):
        TextStream(AS_BYTES, "")


@pytest.mark.parametrize("stops", [5, None, [b"x"], ["x", 3]])
def test_stop_strings_that_are_none_are_refused(stops):
    with pytest.raises(InvalidOption, match="stop"):
        TextStream(AS_BYTES, stops)


def test_a_bare_string_is_one_stop_string():
    assert run(TextStream(AS_BYTES, "END"), ["an END"]) == (["an ", ""], 6)


def decode_byte_by_byte(ids):
    """As SentencePiece does: every byte that belongs to no character is a U+FFFD of its own."""
    return (
        bytes(ids)
        .decode(errors="surrogateescape")
        .translate(dict.fromkeys(range(56448, 56576), "�"))
    )


def test_three_marks_of_an_unfinished_character_are_held_back():
    detokenizer = Detokenizer(Decoding(decode_byte_by_byte))
    assert [detokenizer.push([byte]) for byte in "a🌲".encode()] == ["a", "", "", "", "🌲"]


MARKS = {300: "<|im_end|>", 301: "<s>", 302: "</s>"}


class Spelled:
    """Bytes, and three marks that the text leaves out."""

    def __call__(self, text, *, add_special_tokens):
        return {"input_ids": list(text.encode())}

    def convert_ids_to_tokens(self, token):
        return MARKS.get(token) or (chr(token) if token < 128 else None)

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


SPECIAL = Decoding(
    lambda ids: BYTES.decode([i for i in ids if i < 256]),
    MARKS,
    token_bytes=TokenBytes(Spelled()),
)


def test_a_special_token_is_found_though_the_text_leaves_it_out():
    for stop, kept, text in (
        ("<|im_end|>", 3, "ab"),
        ("b<|im_end|>", 3, "a"),
        ("b<|im", 3, "a"),
        ("end|>cd", 5, "ab"),
        ("im_", 3, "ab"),
        ("abcd", 5, ""),
        ("ab<|im_end|>x", None, "abcde"),
    ):
        stream, shown, found = TextStream(SPECIAL, [stop]), "", None
        for count, token in enumerate([97, 98, 300, 99, 100, 101], start=1):
            if stream(as_tokens([token])) is not None:
                found = count
                break
            shown += stream.take()
        shown += stream.finish()
        assert (shown, found) == (text, kept), stop


def test_many_special_tokens_are_not_remembered_for_ever():
    stream = TextStream(SPECIAL, ["<s>x"])
    for _ in range(50):
        stream(as_tokens([301]))
    assert len(stream._marks) <= len("<s>x")


@pytest.mark.parametrize(
    ("prompt", "stop", "kept", "text"),
    [
        ("a", "ab", 1, ""),  # begins in the prompt: all of the text is gone
        ("a", "abcd", 3, ""),
        ("ab", "ab", None, "bcdef"),  # ends in the prompt: that is none of the text's
        ("xa", "abce", None, "bcdef"),  # only begins there
        ("", "ab", None, "bcdef"),
        ([97, 302], "</s>bc", 2, ""),
        ([97, 302], "a</s>b", 1, ""),
        ([97, 302], "</s>", None, "bcdef"),  # a whole token of the prompt
        ([97, 9999], "ab", None, "bcdef"),  # what is no token stands between
    ],
)
def test_a_stop_string_may_begin_in_the_prompt(prompt, stop, kept, text):
    before = prompt if isinstance(prompt, list) else list(prompt.encode())
    stream, shown, found = TextStream(SPECIAL, [stop], before), "", None
    for count, token in enumerate(b"bcdef", start=1):
        if stream(as_tokens([token])) is not None:
            found = count
            break
        shown += stream.take()
        assert text.startswith(shown)
    assert (shown + stream.finish(), found) == (text, kept)
