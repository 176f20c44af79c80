"""Train any system of the GAN family: pconv, pdgan, pdgan-face, encdec, lafin. See configs/pdgan-face.yaml."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from engine import Batch, Checkpoints, batch_rng, learning_rate, load_initial, run_script, save_weights
from gan_examples import ExamplePool, GanConfig, update_ema, windows, write_picture
from gan_losses import GanLosses
from torch import nn
from train_prior import hole_psnr

from idinpaint.models.discriminator import Discriminator
from idinpaint.models.gan import SYSTEMS, GanInputs, generate, needs_landmarks, needs_prior
from idinpaint.types import InputError

EXTRA_INPUTS = {"prior": "prior_image", "landmarks": "landmarks"}  # of a batch -> of GanInputs


def build_generator(config: GanConfig) -> nn.Module:
    """The untrained generator of `config.system`. Raises InputError for an unknown name."""
    if config.system not in SYSTEMS:
        raise InputError(f"system {config.system}: use one of {', '.join(SYSTEMS)}")
    options: dict[str, Any] = {} if config.widths is None else {"widths": config.widths}
    if needs_prior(config.system):
        options["variant"] = "face" if config.system == "pdgan-face" else "plain"
        names = ("modulation_width", "modulation_kernel", "pyramid", "residual")
        options |= {name: getattr(config, name) for name in names}
    elif config.blocks is not None:
        options["blocks"] = config.blocks
    return SYSTEMS[config.system](**options)


def rate(config: GanConfig, step: int) -> float:
    """Learning rate: warm-up, then cosine (the engine's) or a line down to 0, as published."""
    if config.lr_decay == "cosine" or step < config.lr_warmup_steps:
        return learning_rate(config, step)
    share = (step - config.lr_warmup_steps) / max(1, config.max_train_steps - config.lr_warmup_steps)
    return config.learning_rate * max(0.0, 1 - share)


class Optimizers:
    """Adam of the generator and of the discriminator; one state dict, as `Checkpoints` wants."""

    def __init__(self, config: GanConfig, generator: nn.Module, discriminator: nn.Module) -> None:
        self.config = config
        betas = (config.beta1, 0.99)
        self.generator = torch.optim.AdamW(generator.parameters(), betas=betas, weight_decay=config.weight_decay)
        self.discriminator = torch.optim.AdamW(discriminator.parameters(), betas=betas, weight_decay=0.0)

    def set_rate(self, step: int) -> None:
        for optimizer, factor in ((self.generator, 1.0), (self.discriminator, self.config.discriminator_lr_factor)):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate(self.config, step)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])


class Trainer:
    """Networks, optimizers and one step of both; the loop is `run`."""

    def __init__(self, config: GanConfig) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.folder = config, Path(config.output_dir)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        self.device = self.accelerator.device
        self.generator, self.ema = build_generator(config), build_generator(config)
        if config.init_from:
            load_initial(self.generator, config.init_from)
        self.ema.load_state_dict(self.generator.state_dict())
        self.ema.requires_grad_(False).eval().to(self.device)
        channels = 5 if needs_landmarks(config.system) else 4
        self.discriminator = Discriminator(channels, config.discriminator_width)
        self.optimizers = Optimizers(config, self.generator, self.discriminator)
        self.pair = nn.ModuleDict({"generator": self.generator, "discriminator": self.discriminator})
        self.checkpoints = Checkpoints(self.folder)
        self.start = self.checkpoints.load(self.pair, self.ema, self.optimizers)
        prepared = self.accelerator.prepare(
            self.generator, self.discriminator, self.optimizers.generator, self.optimizers.discriminator
        )
        self.generator, self.discriminator, self.optimizers.generator, self.optimizers.discriminator = prepared
        self.losses = GanLosses(config, self.device)
        self.pool = ExamplePool(config, self.device)
        self.held = {k: v.to(self.device) for k, v in self.pool.held_out().items()}

    def paint(self, generator: nn.Module, batch: Batch, copies: slice, z: torch.Tensor) -> torch.Tensor:
        """The generator's pictures of the batch, then once more of its `copies`; z has a row for each."""
        image, mask = batch["image"], batch["mask"]
        parts = {"masked_image": image * (1 - mask), "mask": mask}
        parts |= {to: batch[name] for name, to in EXTRA_INPUTS.items() if name in batch}
        inputs = {name: torch.cat([value, value[copies]]) for name, value in parts.items()}
        return generate(self.config.system, generator, GanInputs(**inputs, z=z))

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """One update of the discriminator and one of the generator. Raises InputError when a loss is not finite."""
        config, accelerator = self.config, self.accelerator
        self.optimizers.set_rate(step)
        second = config.diversity_samples if config.diversity_weight else 0
        z = torch.randn(len(batch["image"]) + second, 128, device=self.device)
        with accelerator.autocast():
            painted = self.paint(self.generator, batch, slice(0, second), z)
        inpainted = batch["image"] * (1 - batch["mask"]) + painted[: len(batch["image"])] * batch["mask"]
        condition = torch.cat([batch["mask"] * 2 - 1, *([batch["landmarks"]] if "landmarks" in batch else [])], 1)
        looked_at = [windows(x, batch["corner"], config.window) for x in (inpainted, batch["image"], condition)]
        terms, loss_d = {}, None
        if config.adversarial_weight:
            with accelerator.autocast():
                loss_d = self.losses.of_discriminator(self.discriminator, looked_at)
            self._update(loss_d, self.discriminator, self.optimizers.discriminator, step)
            terms["discriminator"] = loss_d.item()
        self.discriminator.requires_grad_(False)
        with accelerator.autocast():
            loss, parts = self.losses.of_generator(self.discriminator, batch, painted, inpainted, looked_at)
        self._update(loss, self.generator, self.optimizers.generator, step)
        self.discriminator.requires_grad_(True)
        plain = accelerator.unwrap_model(self.generator)
        update_ema(self.ema, plain, min(config.ema_decay, (1 + step) / (10 + step)))
        return {"loss": loss.item(), **terms, **parts}

    def _update(self, loss: torch.Tensor, net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if not torch.isfinite(loss):
            raise InputError(f"step {step}: loss is {loss.item()}; lower learning_rate and start from {self.folder}")
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(net.parameters(), self.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:
        """Scores on the validation people, the prior's beside them at step 0; writes the picture of this step."""
        held, outputs = self.held, []
        z = torch.randn(len(held["image"]), 128, generator=torch.Generator().manual_seed(0)).to(self.device)
        for part in torch.arange(len(z), device=self.device).split(8):
            batch = {name: value[part] for name, value in held.items()}
            outputs.append(self.paint(self.ema, batch, slice(0, 0), z[part]).clamp(-1, 1))
        image, mask = held["image"], held["mask"]
        predicted = torch.cat(outputs)
        inpainted = image * (1 - mask) + predicted * mask
        scores = {"val_hole_psnr": hole_psnr(predicted, image, mask)}
        scores |= self.losses.scores(inpainted, image)
        columns = [image * (1 - mask), inpainted, image]
        if "prior" in held:
            fill = image * (1 - mask) + held["prior"] * mask
            columns.insert(1, fill)
            if step == self.start:
                scores["prior_hole_psnr"] = hole_psnr(held["prior"], image, mask)
                scores |= {f"prior_{k}": v for k, v in self.losses.scores(fill, image).items()}
        write_picture(self.folder / "pictures" / f"step-{step:06d}.png", [c[:6] for c in columns])
        return scores

    def run(self) -> nn.Module:
        """Train to max_train_steps from the newest checkpoint; returns the generator's EMA."""
        config, main = self.config, self.accelerator.is_main_process
        if main:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "run.json").write_text(json.dumps({"config": asdict(config)}, indent=1))
            self.log({"step": self.start, **self.validate(self.start)})
        clock, sums, count = time.time(), {}, 0
        for step in range(self.start, config.max_train_steps):
            rng = batch_rng(config, step, self.accelerator.process_index)
            torch.manual_seed(int(rng.integers(2**31)))
            batch = {name: value.to(self.device) for name, value in self.pool.batch(rng, step).items()}
            self.generator.train()
            for name, value in self.step(batch, step).items():
                sums[name] = sums.get(name, 0.0) + value
            count, done = count + 1, step + 1
            if done % config.log_steps == 0 and main:
                speed = count * config.train_batch_size * self.accelerator.num_processes / (time.time() - clock)
                means = {name: round(value / count, 5) for name, value in sums.items()}
                self.log({"step": done, "images_per_s": round(speed, 2), **means})
                clock, sums, count = time.time(), {}, 0
            if (done % config.checkpointing_steps == 0 or done == config.max_train_steps) and main:
                self.checkpoints.save(done, self.pair, self.ema, self.optimizers)
                self.log({"step": done, **self.validate(done)})
        return self.ema

    def log(self, row: dict[str, Any]) -> None:
        """One JSON line to the screen and to log.jsonl."""
        print(json.dumps(row), flush=True)
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")


def main(config: GanConfig) -> None:
    """Train, write the generator's EMA as a diffusers folder (`generator/`) and as generator.safetensors."""
    trainer = Trainer(config)
    ema = trainer.run()
    if trainer.accelerator.is_main_process:
        save_weights(ema, f"{config.output_dir}/generator.safetensors")
        ema.to("cpu").save_pretrained(f"{config.output_dir}/generator", safe_serialization=True)


if __name__ == "__main__":
    run_script(main, GanConfig)
