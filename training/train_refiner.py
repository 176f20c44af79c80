"""Train the refiner that adds detail to what the diffusion paints: windows of a bank, a critic a component.

accelerate launch -q --cpu training/train_refiner.py --config configs/refiner.yaml [--max_train_minutes=60]

Before: training/refine_bank.py writes the bank (train and val); shards that it adds are taken up while this runs. The
same command goes on from the newest weights. See configs/refiner.yaml.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import save_state
from feature_critics import CHANNELS, WindowCritics
from launching import run_guarded
from pack_data import ALEX, VGG16, VGG_LAYERS
from PIL import Image
from refine_windows import CELL, Bank, Windows
from run_log import picture_grid
from safetensors.torch import load_file
from timed_runs import Clock, log, rate, run_alone
from torch import nn
from torch.nn.utils import parametrize
from window_losses import (
    feature_distance,
    gradient_gap,
    gradient_length,
    hinge_critic,
    hinge_painter,
    matching,
    patch_weights,
    per_sample_l1,
    unit_distance,
)

from idinpaint.losses.gan import VGGFeatures
from idinpaint.losses.pictures import AlexFeatures
from idinpaint.models.critics import KINDS
from idinpaint.models.refiner import DetailRefiner, near_features
from idinpaint.types import InputError

HEADS = 1 + len(CHANNELS)  # of a critic
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class RefinerConfig:
    """Settings of the run."""

    bank: str = "runs/refine_bank"
    teachers: str = "runs/teachers"  # written by training/pack_data.py
    output_dir: str = "runs/refiner"
    max_train_minutes: float = 60.0
    windows: tuple[int, ...] = (5, 2, 4, 4, 3)  # a step, by KINDS
    side: int = 80  # px of a window; one round both eyes is half as wide again
    learning_rate: float = 6e-4
    critic_rate: float = 1e-3
    warmup_steps: int = 100
    l1_weight: float = 0.4
    window_weight: float = 0.3
    vgg_weight: float = 0.1
    adversarial_weight: float = 0.2
    matching_weight: float = 6.0
    gradient_weight: float = 0.05
    colour_weight: float = 1.0  # L1 of 8 px means
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    validation_seconds: float = 300.0
    reload_seconds: float = 120.0
    log_steps: int = 50
    threads: int = 1
    seed: int = 0

    def prepare(self) -> None:
        """Check all that can be told before anything is loaded. Raises InputError."""
        for path, way in ((self.bank, "training/refine_bank.py"), (self.teachers, "training/pack_data.py")):
            if not Path(path).is_dir():
                raise InputError(f"{path}: no such folder; write it with {way}")


def refine(net: nn.Module, w: Windows) -> torch.Tensor:
    """The windows with their holes refined."""
    with torch.autocast(DEVICE.type, torch.bfloat16):
        made = net(w.painted, w.mask, w.prior, w.maps).float().clamp(-1.1, 1.1)
    return w.image * (1 - w.mask) + made * w.mask


@dataclass
class Seen:
    """Windows as the losses look at them, and what AlexNet and VGG16 see in them."""

    picture: torch.Tensor
    alex: list[torch.Tensor]
    vgg: list[torch.Tensor]

    def detached(self) -> Seen:
        """Without the painter's graph."""
        return Seen(self.picture.detach(), [], [x.detach() for x in self.vgg])


class RefinerLoss:
    """The frozen networks and the two losses of a step, a kind at a time."""

    def __init__(self, config: RefinerConfig, critics: WindowCritics) -> None:
        self.config, self.critics = config, critics
        teachers = Path(config.teachers)
        self.alex = AlexFeatures(teachers / ALEX).to(DEVICE, torch.bfloat16)
        self.vgg = VGGFeatures(teachers / VGG16, VGG_LAYERS[: len(CHANNELS)]).to(DEVICE, torch.bfloat16)

    def look(self, w: Windows, picture: torch.Tensor) -> Seen:
        """Right eyes are looked at as left ones."""
        view = w.critic_view(picture)
        return Seen(view, self.alex(view), self.vgg(view))

    def critic(self, kind: str, w: Windows, real: Seen, fake: Seen) -> torch.Tensor:
        """Hinge, a mean over the critic's heads; hidden patches near the features count."""
        net, hidden = self.critics.nets[kind], w.critic_view(w.mask * near_features(w.maps))
        pairs = zip(net(real.picture, real.vgg)[0], net(fake.picture, fake.vgg)[0], strict=True)
        ones = hidden.new_ones(len(hidden))
        return sum(hinge_critic(r, f, patch_weights(hidden, ones, r.shape)) for r, f in pairs) / HEADS

    def painter(self, kind: str, w: Windows, real: Seen, fake: Seen, warm: float) -> tuple[torch.Tensor, dict]:
        """The refiner's loss and its terms. warm: share of the adversarial weights, 0 to 1."""
        config, mask, near = self.config, w.critic_view(w.mask), w.critic_view(w.mask * near_features(w.maps))
        ones = mask.new_ones(len(mask))
        scores, features = self.critics.nets[kind](fake.picture, fake.vgg)
        with torch.no_grad():
            goal = self.critics.nets[kind](real.picture, real.vgg)[1]
        terms = {
            "l1": per_sample_l1(fake.picture, real.picture, mask).mean(),
            "colour": F.l1_loss(F.avg_pool2d(fake.picture, CELL), F.avg_pool2d(real.picture, CELL)),
            "window": unit_distance(fake.alex, real.alex).mean(),
            "vgg": feature_distance(fake.vgg, real.vgg).mean(),
            "gradient": gradient_gap(fake.picture, real.picture, near).mean(),
            "adversarial": sum(hinge_painter(s, patch_weights(near, ones, s.shape)) for s in scores) / HEADS,
            "matching": matching(goal, features, ones),
        }
        weights = {name: getattr(config, f"{name}_weight") for name in terms}
        for name in ("adversarial", "matching", "gradient"):
            weights[name] *= warm
        loss = sum(weights[name] * term for name, term in terms.items())
        return loss, {name: float(term.detach()) for name, term in terms.items()}


class Run:
    """Refiner, critics, their optimizers and the average."""

    def __init__(self, config: RefinerConfig) -> None:
        self.config, self.folder = config, Path(config.output_dir)
        self.net, self.average, self.critics = DetailRefiner(), DetailRefiner(), WindowCritics()
        for name, module in (("refiner", self.net), ("critics", self.critics)):
            if (self.folder / f"{name}.safetensors").is_file():
                module.load_state_dict(load_file(self.folder / f"{name}.safetensors"))
        for module in (self.net, self.average, self.critics):
            module.to(DEVICE, memory_format=torch.channels_last)
        self.average.load_state_dict(self.net.state_dict())
        self.average.requires_grad_(False)
        self.loss = RefinerLoss(config, self.critics)
        self.optimizer, self.critic_optimizer = (
            torch.optim.AdamW(m.parameters(), lr=1e-9, betas=(0.5, 0.99), weight_decay=0.0)
            for m in (self.net, self.critics)
        )

    def step(self, batches: dict[str, Windows], step: int, used: float) -> dict[str, float]:
        """Critics, then the refiner, over one batch a kind."""
        config = self.config
        for optimizer, peak in ((self.optimizer, config.learning_rate), (self.critic_optimizer, config.critic_rate)):
            optimizer.param_groups[0]["lr"] = rate(peak, step, config.warmup_steps, used)
        means: dict[str, float] = {}
        parts = []
        for kind, w in batches.items():
            made = refine(self.net, w)
            with torch.autocast(DEVICE.type, torch.bfloat16):
                with torch.no_grad():
                    real = self.loss.look(w, w.image)
                parts.append((kind, w, real, self.loss.look(w, made)))
        self.critics.requires_grad_(True)
        with torch.autocast(DEVICE.type, torch.bfloat16), parametrize.cached():
            critic = sum(self.loss.critic(kind, w, r, f.detached()) for kind, w, r, f in parts)
        critic.backward()
        self.critic_optimizer.step()
        self.critic_optimizer.zero_grad(set_to_none=True)
        self.critics.requires_grad_(False)
        warm = min(1.0, step / max(1, config.warmup_steps))
        total = 0
        with torch.autocast(DEVICE.type, torch.bfloat16), parametrize.cached():
            for kind, w, r, f in parts:
                loss, terms = self.loss.painter(kind, w, r, f, warm)
                total = total + loss * len(w.mask)
                for name, value in terms.items():
                    means[name] = means.get(name, 0.0) + value / len(parts)
        (total / sum(config.windows)).backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), 1 - decay)
        return {**means, "critic": float(critic.detach()) / len(parts), "norm": float(norm)}

    @torch.no_grad()
    def validate(self, bank: Bank) -> tuple[dict[str, float], np.ndarray]:
        """AlexNet distance and share of the photo's gradient a kind, before -> after; and a grid of windows: masked,
        painted, refined, photo."""
        figures, rows = {}, []
        for kind, name in enumerate(KINDS):
            if not len(bank.places[kind]):
                continue
            chosen = np.linspace(0, len(bank.places[kind]) - 1, 16).astype(int)
            w = bank.windows(kind, chosen, None).to(DEVICE)
            made = refine(self.average, w)
            hidden = w.mask[..., 1:-1, 1:-1]
            amounts = [(gradient_length(x) * hidden).sum() for x in (w.painted, made, w.image)]
            with torch.autocast(DEVICE.type, torch.bfloat16):
                goal = self.loss.alex(w.image)
                distances = [unit_distance(self.loss.alex(x), goal).mean() for x in (w.painted, made)]
            figures |= {f"{name}_before": float(distances[0]), name: float(distances[1])}
            figures |= {f"{name}_gradient_before": float(amounts[0] / amounts[2])}
            figures |= {f"{name}_gradient": float(amounts[1] / amounts[2])}
            shown = [x[:6] for x in (w.image * (1 - w.mask), w.painted, made, w.image)]
            rows.append(picture_grid(shown))
        wide = max(r.shape[1] for r in rows)
        return figures, np.concatenate([np.pad(r, ((0, 4), (0, wide - r.shape[1]), (0, 0))) for r in rows])

    def finish(self, bank: Bank, row: dict) -> dict:
        """Validate and write the average, the critics and the grid."""
        figures, grid = self.validate(bank)
        save_state(self.average.state_dict(), self.folder / "refiner.safetensors")
        save_state(self.critics.state_dict(), self.folder / "critics.safetensors")
        temporary = self.folder / "refiner.png.part"
        Image.fromarray(grid).save(temporary, format="PNG")
        os.replace(temporary, self.folder / "refiner.png")
        return {**row, **figures}


def main(config: RefinerConfig) -> None:
    """Train until the minutes are used."""
    torch.set_num_threads(max(1, config.threads))
    torch.manual_seed(config.seed)
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    bank, held = (Bank(Path(config.bank), split, config.side) for split in ("train", "val"))
    run, step = Run(config), 0
    rng = np.random.default_rng(config.seed)
    log(folder, run.finish(held, {"step": 0, "photos": len(bank.data.image)}))
    clock, seen = Clock(config.max_train_minutes * 60), 0
    looked = reloaded = begun = time.monotonic()
    while clock.used() < 1:
        batches = {
            KINDS[kind]: bank.windows(kind, rng.integers(len(bank.places[kind]), size=count), rng).to(DEVICE)
            for kind, count in enumerate(config.windows)
            if len(bank.places[kind])
        }
        means = run.step(batches, step, clock.used())
        step += 1
        if not math.isfinite(means["norm"]):
            raise InputError(f"step {step}: the loss is not finite; what was written before is kept")
        if step % config.log_steps == 0:
            now = time.monotonic()
            speed = (step - seen) * sum(config.windows) / (now - looked)
            log(folder, {"step": step, "used": clock.used(), "windows_per_s": speed, **means})
            looked, seen = now, step
        if time.monotonic() - reloaded > config.reload_seconds:
            bank.take_up()
            reloaded = time.monotonic()
        if time.monotonic() - begun > config.validation_seconds:
            log(folder, run.finish(held, {"step": step, "used": clock.used(), "photos": len(bank.data.image)}))
            begun = looked = time.monotonic()
            seen = step
    log(folder, run.finish(held, {"step": step, "used": 1.0}))


if __name__ == "__main__":
    run_guarded(lambda: run_alone(RefinerConfig, main))
