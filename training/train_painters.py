"""Train prior, diffusion and PD-GAN one after the other, from one packed file, within the minutes that are given.

    accelerate launch -q training/train_painters.py --config configs/bundle.yaml --set max_train_minutes=9

Everything follows the share of the time that is used: learning rate, stages, averages. What is better on the validation
photos is written at once, in files under 16 MB, and replaces what was there in one move, so that the run may be cut at
any second. The discriminators are written too: a later run goes on with them.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from checkpoints import Ema, cast, clear_leftovers, written
from device_examples import DeviceExamples, Examples
from feature_critics import WindowCritics
from launching import parse, run_guarded
from loop_config import process_state
from losses import LossConfig, gradient_length, per_sample_l1, unit_distance
from network_files import load_state, write_weights
from painter_stages import STAGES, DiffusionStage
from painter_steps import PainterLoss
from PIL import Image
from run_log import picture_grid
from torch import nn
from torch.nn.utils import parametrize

from idinpaint.config import build_config, parse_overrides, read_values
from idinpaint.data.packed import PackedFaces
from idinpaint.imaging.folder_lock import locked
from idinpaint.types import InputError


@dataclass
class PainterConfig(LossConfig):
    """Settings of the run."""

    train_data_dir: str = "runs/faces.facepack"  # written by training/pack_data.py
    init: str = "runs/bundle"  # folder of training/import_bundle.py; or of an earlier run
    output_dir: str = "runs/painters"
    max_train_minutes: float = 9.0
    stages: tuple[str, ...] = ("prior", "diffusion", "gan")
    shares: tuple[float, ...] = (0.4, 0.45, 0.15)  # of the minutes
    train_batch_size: int = 96
    learning_rate: float = 4e-4
    fast_rate: float = 3.0  # times that for what starts from nothing
    slow_rate: float = 0.4  # times that for the prior, while the diffusion learns over it
    critic_rate: float = 1e-3
    warmup_steps: int = 100
    adversarial_warmup: int = 300  # steps
    critic_steps: int = 60  # in which the critics learn alone, where there are none to go on with; a tenth of the time
    ema_decay: float = 0.998
    max_grad_norm: float = 1.0
    tune_convolutions: bool = True  # cuDNN tries its ways for each shape first: 13 to 40 s a stage
    validation_seconds: float = 45.0
    validation_photos: int = 48
    tolerance: float = 1.02  # later weights are believable before a distance shows it: kept within 2 % of the best
    log_steps: int = 50
    threads: int = 1
    seed: int = 0

    def prepare(self) -> None:
        """Check all that can be told before anything is loaded. Raises InputError."""
        if len(self.stages) != len(self.shares) or set(self.stages) - set(STAGES):
            raise InputError(f"stages {self.stages}, shares {self.shares}: as many of each, of {', '.join(STAGES)}")
        for path, way in (
            (self.train_data_dir, "write it with training/pack_data.py"),
            (self.teachers, "write it with training/pack_data.py --metric-weights"),
            (self.landmarks, "run training/import_bundle.py"),
            (self.identity, "run training/import_bundle.py"),
        ):
            if not Path(path).exists():
                raise InputError(f"{path}: no such file; {way}")


class Clock:
    """The share of a stage's seconds that is used."""

    def __init__(self, seconds: float) -> None:
        self.start, self.seconds = time.monotonic(), max(seconds, 1e-3)

    def used(self) -> float:
        """In [0, 1]."""
        return min(1.0, (time.monotonic() - self.start) / self.seconds)


def rate(peak: float, step: int, warmup: int, used: float) -> float:
    """Linear warm-up by steps, then half a cosine by the time used, down to 2 % of the peak."""
    return peak * min(1.0, (step + 1) / max(1, warmup)) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * used)))


def log(folder: Path, row: dict) -> None:
    """One line of figures, on the terminal and in log.jsonl."""
    short = {k: round(float(v), 4) if isinstance(v, float | torch.Tensor) else v for k, v in row.items()}
    print(json.dumps(short), flush=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as handle:
        handle.write(json.dumps(short) + "\n")


class Validation:
    """Held-out people under fixed holes: half hide a whole feature, half are random."""

    def __init__(self, pack: PackedFaces, config: PainterConfig, device: torch.device) -> None:
        self.config = config
        examples = DeviceExamples(pack, replace(config, bank_size=100), device, "val")
        state = torch.get_rng_state()
        torch.manual_seed(1)
        index = torch.linspace(0, len(examples.photos) - 1, config.validation_photos).round().long()
        self.parts = []
        for share, chosen in zip((1.0, 0.0), index.to(device).chunk(2), strict=True):
            examples.config = replace(config, feature_share=share, both_share=0.0, grey_share=0.0)
            self.parts.append(examples.batch(len(chosen), chosen))
        torch.set_rng_state(state)

    @torch.no_grad()
    def __call__(self, stage: nn.Module, loss: PainterLoss, accelerator: Accelerator) -> tuple[dict, np.ndarray]:
        """Figures by name, and a grid: masked, restored, original of the feature holes, then of the random ones."""
        figures, grids = {}, []
        for name, part in zip(("feature", "random"), self.parts, strict=True):
            with accelerator.autocast():
                pictures = stage(part, training=False).pictures.float().clamp(-1, 1)
                inpainted = part.masked_image + pictures * part.mask
                distance = unit_distance(loss.alex(inpainted), loss.alex(part.image)).mean()
            area = part.mask.mean((1, 2, 3)).clamp(1e-4)
            error = ((pictures - part.image).square() * part.mask).mean((1, 2, 3)) / area
            gradients = [(gradient_length(x) * part.mask[..., 1:-1, 1:-1]).sum() for x in (pictures, part.image)]
            figures[f"{name}_gradient"] = float(gradients[0] / gradients[1])  # 1: as much detail as there was
            figures[f"{name}_psnr"] = float((10 * torch.log10(4 / error.clamp(min=1e-6))).mean())
            figures[f"{name}_distance"] = float(distance)
            figures[f"{name}_l1"] = float(per_sample_l1(pictures, part.image, part.mask).mean())
            grids.append(picture_grid([x[:12] for x in (part.masked_image, inpainted, part.image)]))
        return figures, np.concatenate(grids, 0)


class StageRun:
    """One stage: painter, critics, optimizers, average."""

    def __init__(self, name: str, config: PainterConfig, accelerator: Accelerator) -> None:
        self.name, self.config, self.accelerator = name, config, accelerator
        self.folder, device = Path(config.output_dir), accelerator.device
        folders = [self.folder, Path(config.init)]
        self.stage = STAGES[name](folders).to(device)
        self.stage.to(memory_format=torch.channels_last)
        self.stage.train()
        self.ema = Ema(self.stage)
        self.critics, self.alone = WindowCritics().to(device), config.critic_steps
        if state := load_state(folders, "critics", needed=False):
            self.critics.load_state_dict(state)
            self.alone = 0
        times = {id(p): config.fast_rate for p in self.stage.fast()}
        times |= {id(p): config.slow_rate for p in self.stage.slow()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in filter(lambda p: p.requires_grad, self.stage.parameters()):
            groups.setdefault(times.get(id(parameter), 1.0), []).append(parameter)
        self.peaks = [config.learning_rate * factor for factor in groups]
        adam = {"lr": 1e-9, "betas": (0.5, 0.99), "weight_decay": 0.0, "fused": device.type == "cuda"}
        self.optimizer = torch.optim.AdamW([{"params": g} for g in groups.values()], **adam)
        self.critic_optimizer = torch.optim.AdamW(self.critics.parameters(), **adam)
        self.best = math.inf

    def step(self, examples: Examples, loss: PainterLoss, step: int, used: float) -> dict[str, torch.Tensor]:
        """Critics, then painter; returns terms that are still on the device."""
        config = self.config
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = rate(peak, step, config.warmup_steps, used)
        self.critic_optimizer.param_groups[0]["lr"] = rate(config.critic_rate, step, config.warmup_steps, used)
        alone = step < self.alone and used < 0.1
        with self.accelerator.autocast(), torch.set_grad_enabled(not alone):
            painted = self.stage(examples)
        copies = painted.copies
        masked, mask = examples.masked_image.repeat(copies, 1, 1, 1), examples.mask.repeat(copies, 1, 1, 1)
        inpainted = masked + painted.pictures * mask
        look = loss.look(examples, inpainted, copies)
        self.critics.requires_grad_(True)
        with self.accelerator.autocast(), parametrize.cached():
            critic = loss.critic(look)
        critic.backward()
        self.critic_optimizer.step()
        self.critic_optimizer.zero_grad(set_to_none=True)
        if alone:
            return {"critic": critic.detach(), "loss": critic.detach()}
        self.critics.requires_grad_(False)
        warm = min(1.0, max(0, step - self.alone) / max(1, config.adversarial_warmup))
        with self.accelerator.autocast(), parametrize.cached():
            total, terms = loss.painter(examples, painted, inpainted, look, warm)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.ema.trained, config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(min(config.ema_decay, (1 + step) / (10 + step)))
        return {**terms, "critic": critic.detach(), "norm": norm, "loss": total.detach()}

    def finish(self, validation: Validation, loss: PainterLoss, row: dict) -> dict:
        """Validate the average; write it and the critics when nothing before was clearly better."""
        with self.ema.applied():
            figures, grid = validation(self.stage.eval(), loss, self.accelerator)
            files = {name: cast(state, torch.float16) for name, state in self.stage.files().items()}
        self.stage.train()
        score = figures["feature_distance"] + figures["random_distance"]
        better = score < self.config.tolerance * self.best
        self.best = min(self.best, score)
        if better:
            for name, state in {**files, "critics": self.critics.state_dict()}.items():
                write_weights(self.folder, name, state)
        with written(self.folder / f"{self.name}.png") as temporary:
            Image.fromarray(grid).save(temporary, format="PNG")
        return {**row, **figures, "written": better}


def run_stage(
    run: StageRun, examples: DeviceExamples, validation: Validation, loss: PainterLoss, seconds: float
) -> None:
    """Steps until the seconds are used; the last few are kept for the last validation."""
    config, clock, step, begun = run.config, Clock(seconds), 0, time.monotonic()
    looked, seen = begun, 0
    log(run.folder, run.finish(validation, loss, {"stage": run.name, "step": 0}))
    while clock.used() < 1:
        terms = run.step(examples.batch(config.train_batch_size), loss, step, clock.used())
        step += 1
        if step % config.log_steps == 0 or step == 5:
            values = {k: v.item() for k, v in terms.items()}
            now = time.monotonic()
            speed = (step - seen) * config.train_batch_size / (now - looked)
            log(run.folder, {"stage": run.name, "step": step, "used": clock.used(), "images_per_s": speed, **values})
            if not math.isfinite(values["loss"]):
                raise InputError(f"{run.name}, step {step}: the loss is not finite; what was written before is kept")
            looked, seen = now, step
        if time.monotonic() - begun > config.validation_seconds:
            log(run.folder, run.finish(validation, loss, {"stage": run.name, "step": step, "used": clock.used()}))
            begun = looked = time.monotonic()
            seen = step
    log(run.folder, run.finish(validation, loss, {"stage": run.name, "step": step, "used": 1.0}))


def main(config: PainterConfig) -> None:
    """Check, load once, run the stages."""
    began = time.monotonic()
    torch.set_num_threads(max(1, config.threads))
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = config.tune_convolutions
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    process_state()
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    pack = PackedFaces(config.train_data_dir)
    examples = DeviceExamples(pack, config, accelerator.device)
    validation = Validation(pack, config, accelerator.device)
    device, loaded = str(accelerator.device), time.monotonic() - began
    log(folder, {"photos": len(examples.photos), "device": device, "loaded_s": loaded})
    minutes = config.max_train_minutes * 60 - (time.monotonic() - began)
    for index, (name, share) in enumerate(zip(config.stages, config.shares, strict=True)):
        left = config.max_train_minutes * 60 - (time.monotonic() - began)
        seconds = min(left - 3, minutes * share / sum(config.shares)) if index < len(config.stages) - 1 else left - 8
        run = StageRun(name, config, accelerator)
        if isinstance(run.stage, DiffusionStage) and not run.stage.measured:
            run.stage.measure([examples.batch(config.train_batch_size) for _ in range(4)])
        loss = PainterLoss(config, run.critics, accelerator.device)
        run_stage(run, examples, validation, loss, seconds)
        del run, loss
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def run() -> None:
    """Main with the command line's config, checked, alone in its output folder."""
    path, _, given = parse(PainterConfig)
    config = build_config(PainterConfig, {**read_values(path), **parse_overrides(given)}, str(path))
    config.prepare()
    with locked(config.output_dir):
        clear_leftovers(config.output_dir)
        main(config)


if __name__ == "__main__":
    run_guarded(run)
