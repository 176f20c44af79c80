"""Holes on the device: whole facial features, torn parts of the picture, and masks of a bank; 1 = hole.

Random strokes mostly cover skin. What a network must learn to paint, eyes, noses, mouths, it sees only where they are
hidden as a whole, so most of these holes are laid over the landmarks of one feature or of several.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from idinpaint.models.tensors import constant

# Landmarks (iBUG-68) of what a hole hides, and how often: an eye with or without its brow, both eyes, nose, mouth ...
GROUPS: tuple[tuple[tuple[int, ...], float], ...] = (
    (tuple(range(36, 42)), 0.08),
    (tuple(range(42, 48)), 0.08),
    ((*range(36, 42), *range(17, 22)), 0.06),
    ((*range(42, 48), *range(22, 27)), 0.06),
    (tuple(range(36, 48)), 0.1),
    (tuple(range(17, 48)), 0.08),
    (tuple(range(27, 36)), 0.18),
    (tuple(range(48, 68)), 0.22),
    (tuple(range(27, 68)), 0.03),
    ((*range(31, 36), *range(48, 68)), 0.06),
    ((*range(17, 22), *range(22, 27)), 0.02),
    ((8, *range(48, 68)), 0.03),
)
COMPONENTS = ("left_eye", "right_eye", "eyes", "nose", "mouth", "face")  # windows that discriminators look at
_MEMBERS = (range(36, 42), range(42, 48), range(36, 48), range(27, 36), range(48, 68), range(17, 68))


def draw_by(weights: torch.Tensor) -> torch.Tensor:
    """One place a row, with the probability of its weight: [B, N] -> [B]. The Gumbel-max trick: torch.multinomial
    checks its input on the host, which then waits for the device."""
    uniform = torch.rand_like(weights).clamp(1e-9, 1 - 1e-7)
    return (weights.clamp(min=1e-9).log() - (-uniform.log()).log()).argmax(-1)


def pixel_grid(side: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of every pixel, each [side, side]."""
    axis = torch.arange(side, device=device, dtype=torch.float32)
    ys, xs = torch.meshgrid(axis, axis, indexing="ij")
    return xs, ys


def wobble(batch: int, side: int, device: torch.device, cells: int = 12) -> torch.Tensor:
    """Smooth noise of about unit variance, [B, 1, side, side]."""
    noise = torch.randn(batch, 1, cells, cells, device=device)
    return F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)


def feature_holes(points: torch.Tensor, side: int = 256) -> torch.Tensor:
    """A rotated ellipse, box or something between with a ragged rim over one group of landmarks.

    points: [B, 68, 2] px -> [B, 1, side, side] in {0, 1}.
    """
    device, b = points.device, len(points)
    weights = constant(tuple(share for _, share in GROUPS), device).expand(b, -1)
    members = constant(tuple(tuple(float(i in group) for i in range(68)) for group, _ in GROUPS), device)
    chosen = members[draw_by(weights)].bool()[..., None]  # (B, 68, 1)
    low = points.masked_fill(~chosen, 1e4).amin(1)
    high = points.masked_fill(~chosen, -1e4).amax(1)
    half = (high - low) / 2 * (1 + 0.6 * torch.rand(b, 2, device=device)) + 4 + 10 * torch.rand(b, 2, device=device)
    centre = (low + high) / 2 + torch.randn(b, 2, device=device) * 3
    angle = torch.randn(b, device=device) * 0.15
    xs, ys = pixel_grid(side, device)
    dx, dy = xs - centre[:, 0].view(-1, 1, 1), ys - centre[:, 1].view(-1, 1, 1)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    u, v = (cos * dx + sin * dy) / half[:, :1, None], (cos * dy - sin * dx) / half[:, 1:, None]
    power = 2 + 6 * (torch.rand(b, device=device) < 0.4).float().view(-1, 1, 1)
    radius = (u.abs() ** power + v.abs() ** power)[:, None]
    ragged = (torch.rand(b, device=device) < 0.5).float().view(-1, 1, 1, 1) * 0.25
    return (radius < 1 + ragged * wobble(b, side, device)).float()


def torn_holes(batch: int, device: torch.device, side: int = 256) -> torch.Tensor:
    """Beyond a ragged line across the picture: a corner or an edge is gone. [B, 1, side, side] in {0, 1}."""
    xs, ys = pixel_grid(side, device)
    angle = torch.rand(batch, 1, 1, 1, device=device) * 2 * torch.pi
    distance = side * (0.18 + 0.3 * torch.rand(batch, 1, 1, 1, device=device))
    along = (xs - side / 2) * angle.cos() + (ys - side / 2) * angle.sin()
    return (along > distance + 8 * wobble(batch, side, device)).float()


def bank_holes(bank: torch.Tensor, batch: int) -> torch.Tensor:
    """Masks of the bank [M, side, side] (uint8), flipped and turned by quarters together: [B, 1, side, side]."""
    index = torch.randint(len(bank), (batch,), device=bank.device)
    holes = bank[index].float()
    flip = torch.rand(batch, 1, 1, device=bank.device) < 0.5
    holes = torch.where(flip, holes.flip(-1), holes)
    swap = torch.rand(batch, 1, 1, device=bank.device) < 0.5
    return torch.where(swap, holes.transpose(-1, -2), holes)[:, None]


def draw_holes(points: torch.Tensor, bank: torch.Tensor, shares: tuple[float, float, float]) -> torch.Tensor:
    """One hole a sample: [B, 1, 256, 256] in {0, 1}. points: [B, 68, 2] px; bank: [M, 256, 256] uint8.

    shares: of holes over features, of torn pictures (the rest comes from the bank), and of the first that also carry
    a mask of the bank.
    """
    b, device = len(points), points.device
    feature, torn, banked = feature_holes(points), torn_holes(b, device), bank_holes(bank, b)
    draw, both = torch.rand(b, 1, 1, 1, device=device), torch.rand(b, 1, 1, 1, device=device) < shares[2]
    over = torch.where(both, torch.maximum(feature, banked), feature)
    return torch.where(draw < shares[0], over, torch.where(draw < shares[0] + shares[1], torn, banked))


def component_centres(points: torch.Tensor) -> torch.Tensor:
    """[B, 68, 2] -> the middles of COMPONENTS [B, 6, 2], in px."""
    return torch.stack([points[:, m.start : m.stop].mean(1) for m in _MEMBERS], 1)


def hidden_shares(centres: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """Share of hole in the middle of each component's window, half of `size` px wide: [B, 6, 2] -> [B, 6]; of the
    face, the largest of the others."""
    coarse = F.avg_pool2d(mask, 4)  # (B, 1, 64, 64)
    reach = torch.linspace(-size / 4, size / 4, 7, device=mask.device)
    dy, dx = torch.meshgrid(reach, reach, indexing="ij")
    grid = centres[:, :-1, None] + torch.stack([dx, dy], -1).view(1, 1, -1, 2)  # (B, 5, 49, 2)
    grid = (2 * grid + 1) / mask.shape[-1] - 1
    shares = F.grid_sample(coarse, grid, align_corners=False)[:, 0].mean(-1)
    return torch.cat([shares, shares.amax(1, keepdim=True)], 1)


def hidden_places(mask: torch.Tensor, size: int) -> torch.Tensor:
    """A random place in each hole [B, 2] px, half of them on its rim, far enough from the edge for a window of
    `size`."""
    coarse = F.avg_pool2d(mask, 4)
    rim = F.max_pool2d(coarse, 3, 1, 1) + F.max_pool2d(-coarse, 3, 1, 1)  # (B, 1, 64, 64), > 0 where it changes
    inside = torch.rand(len(mask), 1, 1, 1, device=mask.device) < 0.5
    place = draw_by(torch.where(inside, coarse, rim).flatten(1) + 1e-6)
    side = coarse.shape[-1]
    centres = torch.stack([place % side, place // side], -1).float() * 4 + 1.5
    return centres.clamp(size / 2, mask.shape[-1] - size / 2)


def windows(pictures: torch.Tensor, centres: torch.Tensor, size: int, out: int | torch.Tensor) -> torch.Tensor:
    """Square windows of `size` px (a number, or one a sample [B]) round centres [B, 2]: [B, C, out, out].

    Differentiable. Windows of `out` px are moved to whole pixels, so that nothing is resampled.
    """
    b = len(pictures)
    if not isinstance(size, torch.Tensor):
        size = torch.full((b,), float(size), device=pictures.device)
    step = size / out
    axis = torch.arange(out, device=pictures.device, dtype=torch.float32) - (out - 1) / 2
    offsets = step[:, None] * axis  # (B, out)
    middle = (centres + 0.5).round() - 0.5
    xs, ys = middle[:, :1] + offsets, middle[:, 1:] + offsets
    grid = torch.stack([xs[:, None].expand(-1, out, -1), ys[:, :, None].expand(-1, -1, out)], -1)
    grid = (2 * grid + 1) / pictures.shape[-1] - 1
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
