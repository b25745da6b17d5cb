"""Train the demo's models from the demo's world: `python -m draftwood.demo.training.train`.

Deterministic by seed on one CPU thread. The learning rate warms up, stays, and falls to zero over
the last part of `--steps`; a run can be resumed, also with another number of steps. The drafter
(`--role drafter`) is trained on the target's distribution instead of the text alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from draftwood.demo.model import drafter_path, target_path
from draftwood.demo.schema import Split
from draftwood.demo.stages import END, PAD
from draftwood.demo.tokenizer import save_tokenizer, train_tokenizer
from draftwood.demo.training.muon import Muon
from draftwood.demo.training.packing import Pack, TrainingBatch, collate, pack_sequences
from draftwood.demo.world import episode

log = logging.getLogger("draftwood.demo.training.train")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 0
    steps: int = 2700
    packs: int = 4  # episodes a step
    questions: int = 2  # an episode
    chunk: int = 16  # steps whose episodes are sorted by length together
    matrix_rate: float = 4e-3
    other_rate: float = 4e-3
    warmup: int = 60  # steps
    cooldown: float = 0.44  # share of the steps over which the rate falls to zero
    prompt_weight: float = 0.0
    width: int = 160
    layers: int = 4
    heads: int = 5
    inner: int = 416


ROLES: Final = {
    "target": Recipe(),
    "drafter": Recipe(steps=6000, width=56, layers=2, heads=2, inner=128),
}


def make_model(recipe: Recipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """A fresh Llama with this recipe's shape and seed."""
    torch.manual_seed(recipe.seed)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def make_pack(recipe: Recipe, tokenizer: Tokenizer, index: int, split: Split = "train") -> Pack:
    """Episode number `index` as a token tree."""
    made = episode(recipe.seed, index, split=split, questions=recipe.questions)
    exchanges = [x for request in made.requests for x in request.exchanges]
    prompts = tokenizer.encode_batch_fast([x.prompt for x in exchanges])
    responses = tokenizer.encode_batch_fast([x.response + END for x in exchanges])
    pairs = [(p.ids, r.ids) for p, r in zip(prompts, responses, strict=True)]
    return pack_sequences(pairs, recipe.prompt_weight)


def batches(recipe: Recipe, tokenizer: Tokenizer, start: int = 0) -> Iterator[TrainingBatch]:
    """The training batches from step `start` on, each of packs of like length."""
    size = recipe.chunk * recipe.packs
    number, at = divmod(start, recipe.chunk)
    while True:
        packs = [make_pack(recipe, tokenizer, number * size + i) for i in range(size)]
        packs.sort(key=lambda p: len(p.tokens))
        order = list(range(recipe.chunk))
        Random(f"{recipe.seed}/{number}").shuffle(order)
        for place in order[at:]:
            yield collate(packs[place * recipe.packs : (place + 1) * recipe.packs])
        number, at = number + 1, 0


def rate_at(recipe: Recipe, step: int) -> float:
    """The share of the full learning rate at a step."""
    left = (recipe.steps - step) / max(1.0, recipe.steps * recipe.cooldown)
    return max(0.0, min(1.0, (step + 1) / recipe.warmup, left))


def logits_of(model: LlamaForCausalLM, batch: TrainingBatch) -> Tensor:
    """The rows [m, vocabulary] that predict the batch's labels."""
    device = model.device
    hidden = model.model(
        input_ids=torch.from_numpy(batch.tokens).to(device),
        position_ids=torch.from_numpy(batch.positions).to(device),
        attention_mask=torch.from_numpy(batch.mask).to(device),
        use_cache=False,
    ).last_hidden_state
    picked = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(batch.sources).to(device)]
    return model.lm_head(picked)  # type: ignore[no-any-return]


def loss_of(
    model: LlamaForCausalLM, batch: TrainingBatch, teacher: LlamaForCausalLM | None
) -> Tensor:
    """The weighted cross entropy against the labels or, with a teacher, against its rows."""
    rows = logits_of(model, batch)
    weights = torch.from_numpy(batch.weights).to(rows.device)
    if teacher is None:
        labels = torch.from_numpy(batch.labels).to(rows.device)
        losses = cross_entropy(rows, labels, reduction="none")
    else:
        with torch.no_grad():
            goal = softmax(logits_of(teacher, batch), dim=-1)
        losses = -(goal * log_softmax(rows, dim=-1)).sum(dim=-1)
    return (losses * weights).sum() / weights.sum()


@torch.inference_mode()
def exactness(model: LlamaForCausalLM, packs: Sequence[Pack]) -> dict[str, float]:
    """The share of right responses, by stage, that greedy decoding would give word for word."""
    names = ("classify", "extract", "draft", "repair", "combine")
    right: list[bool] = []
    for p in packs:
        guesses = logits_of(model, collate([p])).argmax(dim=-1).cpu().numpy()
        counted = np.flatnonzero(p.weights > 0)
        hit = np.zeros(len(p.tokens), np.bool_)
        hit[counted] = guesses == p.tokens[counted]
        right += [bool(hit[nodes].all()) for nodes in p.responses]
    stages = {name: float(np.mean(right[i::5])) for i, name in enumerate(names)}
    return stages | {"all": float(np.mean(right))}


class Trainer:
    """A run: the model, its optimizers and the step reached; saves and resumes itself."""

    def __init__(
        self, recipe: Recipe, tokenizer: Tokenizer, *, teacher: Path | None = None
    ) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = make_model(recipe, tokenizer).to(device)
        self.teacher = LlamaForCausalLM.from_pretrained(teacher).to(device) if teacher else None
        inner = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        known = {id(p) for p in inner}
        outer = [p for p in self.model.parameters() if id(p) not in known]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(inner, lr=recipe.matrix_rate),
            torch.optim.AdamW(outer, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step = 0
        self.tokens = 0  # nodes of the trees seen

    def run(self, *, until: int | None = None) -> Iterator[float]:
        """Train to step `until` (the recipe's last by default); yields each step's loss."""
        rates = (self.recipe.matrix_rate, self.recipe.other_rate)
        for batch in batches(self.recipe, self.tokenizer, self.step):
            if self.step >= (self.recipe.steps if until is None else until):
                return
            loss = loss_of(self.model, batch, self.teacher)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer, full in zip(self.optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = full * rate_at(self.recipe, self.step)
                optimizer.step()
                optimizer.zero_grad()
            self.step += 1
            self.tokens += int((batch.tokens != 0).sum())
            yield loss.item()

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs; an interrupted save leaves the former one whole."""
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens": self.tokens,
            "recipe": asdict(self.recipe),
        }
        torch.save(state, folder / "state.tmp")
        (folder / "state.tmp").replace(folder / "state.pt")

    def resume(self, folder: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(folder / "state.pt", map_location=self.model.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens = state["step"], state["tokens"]

    def export(self, folder: Path) -> None:
        """Write the folder that `from_pretrained` reads: float16 on disk, float32 in use."""
        folder.mkdir(parents=True, exist_ok=True)
        half = make_model(self.recipe, self.tokenizer).half()
        half.load_state_dict(self.model.state_dict())
        half.generation_config = GenerationConfig(
            eos_token_id=half.config.eos_token_id, pad_token_id=half.config.pad_token_id
        )
        half.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config["dtype"] = "float32"
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        save_tokenizer(self.tokenizer, folder)
        note = {"step": self.step, "tokens": self.tokens, "recipe": asdict(self.recipe)}
        note["parameters"] = self.model.num_parameters()
        (folder / "training.json").write_text(json.dumps(note, indent=2) + "\n", "utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=sorted(ROLES), default="target")
    parser.add_argument("--out", type=Path, help="export here (default: into the package)")
    parser.add_argument("--checkpoint", type=Path, help="save here while training")
    parser.add_argument("--resume", action="store_true", help="go on from --checkpoint")
    parser.add_argument("--export", action="store_true", help="only export --checkpoint")
    parser.add_argument("--teacher", type=Path, help="the drafter's teacher (default: the target)")
    parser.add_argument("--minutes", type=float, help="stop after so long, wherever it stands")
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--threads", type=int, default=1, help="more than one: not deterministic")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")

    given = {k: v for k in asdict(Recipe()) if (v := getattr(arguments, k)) is not None}
    recipe = replace(ROLES[arguments.role], **given)
    drafter = arguments.role == "drafter"
    teacher = (arguments.teacher or target_path()) if drafter else None
    out = arguments.out or (drafter_path() if drafter else target_path())
    tokenizer = train_tokenizer(recipe.seed)
    if teacher:
        tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    trainer = Trainer(recipe, tokenizer, teacher=teacher)
    if arguments.resume or arguments.export:
        trainer.resume(arguments.checkpoint)
    log.info("%d parameters, %s", trainer.model.num_parameters(), recipe)
    if not arguments.export:
        _train(trainer, arguments.checkpoint, every=arguments.every, minutes=arguments.minutes)
    trainer.export(out)


def _train(trainer: Trainer, folder: Path | None, *, every: int, minutes: float | None) -> None:
    """Run with a line of progress now and then, and checkpoints."""
    recipe = trainer.recipe
    tests = [make_pack(recipe, trainer.tokenizer, i, "held-out") for i in range(24)]
    began, losses, seen = time.monotonic(), list[float](), trainer.tokens
    for loss in trainer.run():
        losses.append(loss)
        late = minutes is not None and time.monotonic() - began > minutes * 60
        if trainer.step % every == 0 or late or trainer.step == recipe.steps:
            speed = (trainer.tokens - seen) / (time.monotonic() - began)
            shares = " ".join(f"{k} {v:.2f}" for k, v in exactness(trainer.model, tests).items())
            mean = sum(losses) / len(losses)
            log.info("step %d loss %.4f %.0f nodes/s | %s", trainer.step, mean, speed, shares)
            losses.clear()
            if folder is not None:
                trainer.save(folder)
        if late:
            return


if __name__ == "__main__":
    main()
