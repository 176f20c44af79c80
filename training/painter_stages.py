"""What train_painters.py trains, one stage after the other: the prior, the diffusion over it, PD-GAN over it.

A stage builds its networks from weights, paints a batch of examples, and says what is written at the end. The losses
are the trainer's: they are the same for all three.
"""

from __future__ import annotations

import torch
from device_examples import Examples
from diffusers import UNet2DConditionModel
from equations.pictures import min_snr_weight
from losses import per_sample_l1, repeated, weighted_mean
from network_files import Folders, load_some, load_state, part_of
from prior_stage import ID_DIM, OverPrior, Painted, PriorStage
from sampling import make_scheduler
from torch import nn

from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import Conditions, StageOne, build_conditions
from idinpaint.models.gan import GanInputs, generate
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pdgan import PDGANGenerator
from idinpaint.models.refiner import DetailRefiner
from idinpaint.models.tensors import constant, heatmap_tensor

LAST = 999  # the timestep that one-step sampling starts from: pure noise
# Of the prior's fill in the painted picture, see IdentityInpaintPipeline: .5 to .75 had the lowest KID and LPIPS on 40
# validation photos. The losses look at the mean, as the user does: what the mean loses, the residual makes up for.
PRIOR_SHARE = 0.5
PRIOR_WEIGHT = 0.2  # of the L1 of the prior's own fill while it learns with the diffusion
FEW_STEPS = (749, 499, 249, 666, 333, 874, 124)  # those of 2 to 8 steps, trailing


def make_unet(latent_channels: int, reference_channels: int, token_dim: int) -> UNet2DConditionModel:
    """Identity enters by tokens at 16 x 16 and 8 x 8 cells, and through the class embedding into every block."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=3 * latent_channels + 4 + reference_channels + 68,
        out_channels=latent_channels,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=token_dim,
        attention_head_dim=(8, 8, 32),
        norm_num_groups=16,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=ID_DIM,
    )


class DiffusionStage(OverPrior):
    """UNet, identity tokens, decoder, the UNet's share of the references and the refiner; the prior and the encoder of
    references go on learning with them, at a lower rate: what the losses ask of the picture, half of which is the
    prior's, they must be able to answer, identity above all."""

    name = "diffusion"

    def __init__(self, folders: Folders) -> None:
        super().__init__(folders)
        state = load_state(folders, "denoiser")
        self.first = self.base[0].requires_grad_(True)
        encoder = self.first.reference_encoder
        self.reference_heads = nn.ModuleDict({"to_input": encoder.to_input, "to_blocks": encoder.to_blocks})
        self.autoencoder = FaceAutoencoder(detail_width=32)
        channels = self.autoencoder.config.latent_channels
        self.unet = make_unet(channels, encoder.config.unet_channels, 192)
        self.id_tokens = IdentityTokens(ID_DIM, token_dim=192)
        load_some(self.autoencoder, part_of(state, "autoencoder"), ("detail",))
        self.autoencoder.analysis.requires_grad_(False)
        self.autoencoder.synthesis.requires_grad_(False)
        load_some(self.id_tokens, part_of(state, "id_tokens"), ())
        self._load_unet(part_of(state, "unet"), 3 * channels + 4)
        if heads := part_of(state, "reference_heads"):
            self.reference_heads.load_state_dict(heads)
        self.refiner = DetailRefiner(elsewhere=True)  # begins by changing nothing
        if refiner := load_state(folders, "refiner", needed=False):
            load_some(self.refiner, refiner, ("far",))
        std = state.get("residual_std")
        self.register_buffer("residual_std", torch.ones(channels) if std is None else std)
        self.measured = std is not None
        self.scheduler = make_scheduler()
        alphas = self.scheduler.alphas_cumprod
        self.register_buffer("alphas", alphas.clone(), persistent=False)
        weights = min_snr_weight(alphas, 5.0, "v_prediction")
        weights[LAST] = 0  # pure noise: the velocity is the picture itself, whose losses are those of every stage
        self.register_buffer("velocity_weights", weights, persistent=False)

    def _load_unet(self, state: dict[str, torch.Tensor], place: int) -> None:
        """A UNet without the new inputs and blocks is widened: what is new begins by changing nothing."""
        weight = state["conv_in.weight"]
        wider = self.unet.conv_in.weight.shape[1] - weight.shape[1]
        new = ("class_embedding", "down_blocks.1.attentions", "up_blocks.1.attentions")
        if wider:
            gap = weight.new_zeros(len(weight), wider, *weight.shape[2:])
            state["conv_in.weight"] = torch.cat([weight[:, :place], gap, weight[:, place:]], 1)
            nn.init.zeros_(self.unet.class_embedding.weight)
            nn.init.zeros_(self.unet.class_embedding.bias)
            for block in (self.unet.down_blocks[1], self.unet.up_blocks[1]):
                for attention in block.attentions:
                    nn.init.zeros_(attention.proj_out.weight)
                    nn.init.zeros_(attention.proj_out.bias)
        load_some(self.unet, state, new if wider else ())

    def fast(self) -> list[nn.Parameter]:
        """As Stage's: where references and identity enter, and the refiner."""
        new = [*self.reference_heads.parameters(), *self.unet.class_embedding.parameters()]
        return [*new, *self.refiner.parameters()]

    def slow(self) -> list[nn.Parameter]:
        """As Stage's: the prior and the references' levels."""
        return [*self.first.prior.parameters(), *self.first.reference_encoder.stages.parameters()]

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        """As PriorStage's; prior and refiner in files of their own."""
        state = self.state_dict()
        denoiser = {k: v for k, v in state.items() if not k.startswith(("refiner.", "first."))}
        return {"denoiser": denoiser, "refiner": part_of(state, "refiner"), "prior": part_of(state, "first")}

    def conditions(self, examples: Examples) -> tuple[Conditions, torch.Tensor]:
        """The UNet's maps with heatmaps, and the latents of the true picture."""
        levels = self.first.reference_encoder(examples.references)
        fill, features = self.first.prior.fill(examples.masked_image, examples.mask, examples.id_embed, levels)
        made = build_conditions(
            self.autoencoder, StageOne(fill.clamp(-1, 1), features), examples.masked_image, examples.mask
        )
        with torch.no_grad():
            target = self.autoencoder.encode(examples.image)
        heads = self.reference_heads
        made.added = [conv(x) for conv, x in zip(heads["to_blocks"], (levels[3], levels[3], levels[4]), strict=True)]
        heatmaps = heatmap_tensor(examples.predicted, 32)
        keep = (torch.rand(len(heatmaps), 1, 1, 1, device=heatmaps.device) > 0.05).float()
        parts = (made.channels, heads["to_input"](levels[2]), heatmaps * keep)
        made.channels = torch.cat([part.to(made.prior_latents.dtype) for part in parts], 1)
        return made, target

    @torch.no_grad()
    def measure(self, batches: list[Examples]) -> None:
        """Set residual_std: the standard deviation of the residual in touched cells, a number a channel."""
        total, count = 0.0, 0.0
        for examples in batches:
            made, target = self.conditions(examples)
            hole = made.touched.float()
            total = total + ((target.float() - made.prior_latents.float()).square() * hole).sum((0, 2, 3))
            count = count + hole.sum()
        self.residual_std.copy_((total / count).sqrt().clamp(min=1e-3))

    def forward(self, examples: Examples, training: bool = True) -> Painted:
        """Two candidates a sample from two noises, decoded from the one-step prediction; in validation one, from pure
        noise. Some samples start at a later timestep, from their true latents noised, as steps 2, 3 ... of inference
        do; there the velocity's own loss counts."""
        b, copies = len(examples.image), 2 if training else 1
        made, target = self.conditions(examples)
        std = self.residual_std.view(1, -1, 1, 1)
        residual = (target.float() - made.prior_latents.float()).detach() / std
        device = residual.device
        few = constant(FEW_STEPS, device, torch.long)[torch.randint(len(FEW_STEPS), (b,), device=device)]
        late = torch.rand(b, device=device) < (0.25 if training else 0.0)
        timesteps = torch.where(late, few, torch.full_like(few, LAST)).repeat(copies)
        noise = torch.randn(copies * b, *residual.shape[1:], device=device)
        kept = self.alphas[timesteps].view(-1, 1, 1, 1)
        clean = residual.repeat(copies, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise

        def again(x: torch.Tensor) -> torch.Tensor:
            return repeated(x, copies)

        id_embed = again(examples.id_embed)
        velocity = self.unet(
            torch.cat([noisy, again(made.channels).float()], 1), timesteps, self.id_tokens(id_embed),
            class_labels=id_embed * ID_DIM**0.5,
            down_intrablock_additional_residuals=[again(x) for x in made.added],
        ).sample.float()  # fmt: skip
        predicted = kept.sqrt() * noisy - (1 - kept).sqrt() * velocity  # v-prediction's x0
        latents = again(made.prior_latents).float() + predicted * std * again(made.touched)
        known, hole, prior = again(examples.masked_image), again(examples.mask), again(made.prior_image).float()
        pictures = self.autoencoder.decode(latents, known, hole, again(made.prior_features)).float()
        pictures = torch.lerp(pictures, prior, PRIOR_SHARE)
        painted, fill = (known + x.clamp(-1, 1) * hole for x in (pictures, prior))
        pictures = self.refiner(painted, hole, fill, again(heatmap_tensor(examples.predicted, 32))).float()
        if not training:
            return Painted(pictures)
        goal = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        touched = again(made.touched).float()
        error = ((velocity - goal).square() * touched).mean((1, 2, 3)) / touched.mean((1, 2, 3)).clamp(min=0.01)
        extra = 0.25 * weighted_mean(error, self.velocity_weights[timesteps])
        # Prior and decoder are averaged: without a loss of its own the prior's fill could become anything.
        extra = extra + PRIOR_WEIGHT * per_sample_l1(made.prior_image.float(), examples.image, examples.mask).mean()
        return Painted(pictures, copies, extra)


class GanStage(OverPrior):
    """The face variant of PD-GAN over the frozen prior."""

    name = "gan"

    def __init__(self, folders: Folders) -> None:
        super().__init__(folders)
        self.generator = PDGANGenerator(
            widths=(160, 160, 128, 48, 16), modulation_width=16, prior_features=(256, 192, 96, 48, 24), skips=True,
            rank_share=0.3,
        )  # fmt: skip
        load_some(self.generator, load_state(folders, "pdgan-face"), ())

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        """As PriorStage's."""
        return {"pdgan-face": self.generator.state_dict()}

    def forward(self, examples: Examples, training: bool = True) -> Painted:
        """Two candidates a sample from two latents; one in validation."""
        copies = 2 if training else 1
        with torch.no_grad():
            fill, features = self.base[0].fill(examples)

        z = torch.randn(copies * len(fill), self.generator.config.z_dim, device=fill.device)
        inputs = GanInputs(
            repeated(examples.masked_image, copies), repeated(examples.mask, copies),
            repeated(fill.float().clamp(-1, 1), copies), z, features=[repeated(f.float(), copies) for f in features],
        )  # fmt: skip
        return Painted(generate("pdgan-face", self.generator, inputs).float(), copies)


STAGES = {stage.name: stage for stage in (PriorStage, DiffusionStage, GanStage)}
