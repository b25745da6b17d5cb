"""The Recall file by docs/recall-format.md alone: the golden file, and hostile ones."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import mmap
import random
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from draftwood import errors
from draftwood.draft import Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream

GOLDEN = Path(__file__).parents[1] / "golden" / "recall"
FILE, FIRST = GOLDEN / "v2.recall", GOLDEN / "v1.recall"
PAGE, HEADER, COUNTERS, CAPACITY = 4096, 192, 128, 512
ORDERS, BITS = (1, 2, 4), (9, 9, 9)
MODEL_WORDS = 35_524
MODEL_PAGES = -(-4 * MODEL_WORDS // PAGE)
UNNAMED = 2**32 - 1
MASK = 2**32 - 1

spec = importlib.util.spec_from_file_location("golden_recall_write", GOLDEN / "write.py")
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)


def word(data, at, size):
    return int.from_bytes(data[at : at + size], "little")


def crc32c(data):
    check = 2**32 - 1
    for byte in data:
        check ^= byte
        for _ in range(8):
            check = check >> 1 ^ 0x82F63B78 * (check & 1)
    return check ^ 2**32 - 1


class Sections:
    """The arrays of a file of 512 slots."""

    def __init__(self, data):
        at = PAGE
        self.owners = np.frombuffer(data, np.uint64, CAPACITY // 64, at)
        at += PAGE
        self.tokens = np.frombuffer(data, np.int32, 4 * CAPACITY, at)[::4]
        self.links = np.frombuffer(data, np.uint32, 4 * CAPACITY, at).reshape(-1, 4)[:, 1:]
        at += 16 * CAPACITY
        self.heads = []
        for bits in BITS:
            self.heads.append(np.frombuffer(data, np.uint32, 1 << bits, at))
            at += PAGE
        self.model = np.frombuffer(data, np.uint32, 35_524, at)
        self.end = at + 35 * PAGE


def key_of(namespace):
    return word(hashlib.blake2b(namespace.encode(), digest_size=8).digest(), 0, 8)


def start_of(key):
    """Where the hashes of a namespace begin, in a file of version 2."""
    x = golden.SEED ^ key
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD % 2**64
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return x >> 32


def buckets(before, key):
    """Order -> bucket, of the tokens before a place."""
    found, value = {}, start_of(key)
    for k, token in enumerate(before[::-1][:4], 1):
        x = (value ^ token) * 0x9E3779B1 & MASK
        x = (x ^ x >> 15) * 0x85EBCA77 & MASK
        value = x ^ x >> 13
        if k in ORDERS:
            found[k] = (value * 0xC2B2AE3D & MASK) >> 32 - BITS[ORDERS.index(k)]
    return found


def test_the_header_is_what_the_page_says():
    data = FILE.read_bytes()
    assert data[:8] == b"DWRECALL"
    assert [word(data, at, 4) for at in (8, 12, 24, 28)] == [2, HEADER, CAPACITY, 0x090909]
    assert word(data, 16, 8) == len(data) == Sections(data).end
    assert data[32:64] == bytes(range(32))
    assert [word(data, at, 8) for at in (64, 72)] == [golden.SEED, 0]
    assert word(data, 80, 8) == crc32c(data[:80])
    claimed, written, sequences, learned, clean = (word(data, at, 8) for at in range(128, 168, 8))
    assert claimed == written > CAPACITY
    assert (sequences, learned, clean) == (8, 1, 1)
    assert not any(data[88:128])
    assert not any(data[168:PAGE])


def test_parts_marks_owners_links_and_heads_are_what_the_page_says():
    """All that is held is read back by the rules, and every chain is built again."""
    data = FILE.read_bytes()
    parts = Sections(data)
    written = word(data, 136, 8)
    tokens, links = parts.tokens.tolist(), parts.links.tolist()
    heads = [dict(enumerate(head.tolist())) for head in parts.heads]
    known = {key_of(name): name for name in ("", "tenant")}
    held, before = [], None
    newest = [{}, {}, {}]
    compared = 0
    for position in range(written - CAPACITY, written):
        slot = position % CAPACITY
        token, owner = tokens[slot], int(parts.owners[slot // 64])
        if token & 0xC0000000 == 0x80000000 and token < 0:
            behind = tokens[(slot + 1) % CAPACITY]
            number = (token & 0x3FFFFFFF) | (behind & 0x3FFFFFFF) << 30
            before = []
            held.append((known[owner], number, before))
            assert links[slot] == links[(slot + 1) % CAPACITY] == [UNNAMED] * 3
            continue
        if token == -1:
            assert links[slot] == [UNNAMED] * 3
        if before is None or token < 0:  # its mark is overwritten; a second mark, or blank
            continue
        if links[slot] != [UNNAMED] * 3:
            found = buckets(before, owner)
            for order, k in enumerate(ORDERS):
                link = links[slot][order]
                if k not in found:
                    assert link == 0
                    continue
                if found[k] in newest[order]:  # or it leads to what has lost its mark
                    assert link == newest[order][found[k]]
                    compared += 1
                newest[order][found[k]] = slot + 1
        else:
            assert len(before) < 8  # context
        before.append(token)
    assert compared > 100
    for order in range(3):
        assert all(heads[order][bucket] == at for bucket, at in newest[order].items())
    long, poem = list(range(20, 150)), golden.POEM
    assert (
        held[-11:]
        == [
            ("", 2, []),  # removed
            ("tenant", 3, [11, 12, 13, *poem]),
            ("", 4, long[:118]),
            ("", 4, long[110:]),
            ("", 5, [*range(72, 80), 5, 151_642, 7, 2**31 - 1]),
            ("", 6, [*poem[-8:], *poem[:9]]),
            ("", 6, poem[1:12]),
            ("tenant", 7, [*poem[-8:], *poem[:9]]),
            ("tenant", 7, poem[1:12]),
            ("", 8, [*poem[-8:], *poem[:9]]),
            ("", 8, poem[1:12]),
        ]
    )


@pytest.mark.parametrize("file", [FIRST, FILE], ids=["version 1", "version 2"])
def test_the_golden_file_opens_and_drafts_as_it_did(file):
    recall = Recall.open(file, write=False, fingerprint=bytes(range(32)))
    assert golden.drafts(recall) == json.loads(file.with_suffix(".json").read_text())


def test_a_file_of_version_1_is_written_on_by_its_own_rules(tmp_path):
    """Its old places and its new ones stand in the same chains, and its seed stays none."""
    path = tmp_path / "history.recall"
    shutil.copy(FIRST, path)
    before = path.read_bytes()
    with closing(Recall.open(path, fingerprint=golden.FINGERPRINT, seed=5)) as recall:
        recall.add([3, 1, 4, 77], namespace="tenant")
        with closing(RecallStream(recall, [3, 1, 4], namespace="tenant")) as stream:
            assert set(stream.propose(Budget(4, depth=1)).tokens.tolist()) >= {1, 77}
    assert path.read_bytes()[:72] == before[:72]


def test_a_section_that_this_release_does_not_know_is_told_by_name(tmp_path):
    path = tmp_path / "history.recall"
    data = bytearray(FILE.read_bytes())
    data[72] = 1
    data[80:88] = crc32c(data[:80]).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(errors.HistoryTooNew, match="section"):
        Recall.open(path, write=False)


def test_the_same_history_gives_the_golden_file_byte_for_byte(tmp_path):
    path = tmp_path / "history.recall"
    recall = Recall.open(
        path, max_tokens=CAPACITY, fingerprint=golden.FINGERPRINT, seed=golden.SEED
    )
    golden.fill(recall)
    recall.close()
    assert path.read_bytes() == FILE.read_bytes()


# --- Hostile files ----------------------------------------------------------------------------


def use(path, *, write=False):
    """Opens and drafts; writes and removes too, where it may."""
    recall = Recall.open(path, write=write)
    for namespace, context in golden.QUESTIONS[:4]:
        with closing(RecallStream(recall, context, namespace=namespace)) as stream:
            guess = stream.propose(Budget(32))
            assert len(guess) <= 32
            assert (guess.tokens >= 0).all()
            stream.observe(context)
    if write:
        recall.remove(recall.add(golden.POEM, namespace="tenant"))
        recall.remove_namespace("")


def test_every_length_up_to_the_whole_file_is_told_by_name(tmp_path):
    data, path = FILE.read_bytes(), tmp_path / "history.recall"
    path.write_bytes(data)
    for size in [*range(len(data) - 1, 2 * PAGE, -997), *range(2 * PAGE, -1, -1)]:
        with path.open("r+b") as file:
            file.truncate(size)
        expected = errors.NotAHistory if size < 8 else errors.HistoryTruncated
        with pytest.raises(expected, match=str(path)):
            Recall.open(path, write=False)


def test_every_flipped_bit_of_the_fixed_header_is_told_by_name(tmp_path):
    path = tmp_path / "history.recall"
    shutil.copy(FILE, path)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), PAGE) as data:
        for at in range(88):
            expected = errors.HistoryTooNew if at < 12 else errors.HistoryMalformed
            for bit in range(8):
                data[at] ^= 1 << bit
                with pytest.raises(errors.NotAHistory if at < 8 else expected, match=str(path)):
                    Recall.open(path, write=False)
                data[at] ^= 1 << bit


def test_any_other_flipped_bit_gives_an_error_by_name_or_some_draft(tmp_path):
    path = tmp_path / "history.recall"
    shutil.copy(FILE, path)
    chance = random.Random(1)
    opened = 0
    model = FILE.stat().st_size - 35 * PAGE
    places = [*range(88, 320), *range(320, model, 7), *range(model, model + 35 * PAGE, 53)]
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for at in places:
            flip = 1 << chance.randrange(8)
            data[at] ^= flip
            try:
                use(path)
                opened += 1
            except errors.HistoryMalformed:
                assert COUNTERS <= at < COUNTERS + 16  # `written` above `claimed`
            data[at] ^= flip
    assert opened > 4000


@pytest.mark.parametrize("seed", range(40))
def test_a_writer_bears_counters_and_bytes_of_any_kind(tmp_path, seed):
    path = tmp_path / "history.recall"
    data = bytearray(FILE.read_bytes())
    chance = random.Random(seed)
    written = chance.choice([0, 1, 511, 512, 600, 2**32, 2**63, 2**64 - 65, 2**64 - 1])
    data[128:136] = max(written, chance.choice([0, 2**64 - 1])).to_bytes(8, "little")
    data[136:144] = written.to_bytes(8, "little")
    data[144:152] = chance.randbytes(8)
    for _ in range(chance.choice([0, 100, 20_000])):
        data[chance.randrange(PAGE, len(data))] = chance.randrange(256)
    path.write_bytes(data)
    use(path, write=True)
    use(path, write=True)


def test_a_file_that_a_dead_writer_began_is_made_again(tmp_path):
    path = tmp_path / "history.recall"
    path.write_bytes(bytes(FILE.stat().st_size))  # its length was set, its header was not written
    with pytest.raises(errors.NotAHistory):
        Recall.open(path, write=False)
    recall = Recall.open(path, max_tokens=CAPACITY)
    assert (recall.capacity, recall.written) == (CAPACITY, 0)


def test_what_was_claimed_and_not_completed_is_not_there(tmp_path):
    path = tmp_path / "history.recall"
    shutil.copy(FILE, path)
    data = bytearray(path.read_bytes())
    written = word(data, 136, 8)
    data[128:136] = (written + 64).to_bytes(8, "little")
    for position in range(written, written + 64):  # half written: tokens, and heads that lead there
        at = 2 * PAGE + 16 * (position % CAPACITY)
        data[at : at + 4] = (77).to_bytes(4, "little")
    before = golden.drafts(Recall.open(FILE, write=False))
    path.write_bytes(data)
    recall = Recall.open(path)
    assert recall.written == written
    assert golden.drafts(recall) == before
