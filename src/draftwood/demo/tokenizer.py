"""The demo's tokenizer: a small byte-level BPE trained on the demo's world.

`python -m draftwood.demo.tokenizer OUT` writes tokenizer.json, tokenizer_config.json and
special_tokens_map.json. Words and numbers keep the space before them; any UTF-8 round-trips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from draftwood.demo.stages import ASSISTANT, END, PAD, SYSTEM, USER
from draftwood.demo.words import COLUMNS, DOMAINS, Numbers
from draftwood.demo.world import episode

VOCABULARY = 2048
SPECIAL = (PAD, END, SYSTEM, USER, ASSISTANT)
PIECES = r" ?[A-Za-z]+|_[a-z]+| ?\d+| ?\([*]\)| \.\.\.|\n| ?[^\sA-Za-z0-9_]|\s+|_"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(seed: int = 0, *, sampled: int = 3000) -> Tokenizer:
    """Train the BPE on `sampled` training episodes and on every word of the world."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed, sampled), trainer)
    return tokenizer


def _corpus(seed: int, sampled: int) -> Iterator[str]:
    """Sampled exchanges, then each word often enough to become one token in both its forms."""
    for index in range(sampled):
        for request in episode(seed, index).requests:
            last = request.exchanges[-1]
            yield from (last.system, last.user, last.response)
    words: list[str] = []
    for entities in DOMAINS.values():
        for entity in entities:
            words += [entity.plural, entity.singular]
    for name, column in COLUMNS.items():
        words += name.split("_")
        if not isinstance(column.values, Numbers):
            words += column.values
    for word in dict.fromkeys(words):
        yield from (f" {word}", word) * 40


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that `AutoTokenizer.from_pretrained(folder)` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": END, "pad_token": PAD}
    config = named | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    for name, content in (("tokenizer_config", config), ("special_tokens_map", named)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def main() -> None:
    """Command line: train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save_tokenizer(train_tokenizer(arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
