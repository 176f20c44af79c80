"""What the node does, without ComfyUI, in its tensors: an image is float [B, H, W, C] in 0..1, a mask [B, H, W]."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import torch


@lru_cache(maxsize=1)
def load_restorer(device: str = "auto") -> Any:
    """The bundled model, loaded once."""
    from idinpaint import Restorer

    return Restorer.from_pretrained(device=device)


def to_pictures(image: torch.Tensor) -> list[np.ndarray]:
    """[B, H, W, C] in 0..1, C 3 or 4 (or 1: grey) -> uint8 [H, W, 3] each. Alpha is left out."""
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"an image is [B, H, W, C] with 1, 3 or 4 channels, not {tuple(image.shape)}")
    array = image.detach().float().cpu().numpy()
    array = np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]
    return list(np.ascontiguousarray(np.rint(np.nan_to_num(array).clip(0, 1) * 255).astype(np.uint8)))


def to_holes(mask: torch.Tensor, count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """[B, H, W] or [H, W] in 0..1, 1 = hole -> bool [H, W] each; one mask serves all images. size: (H, W)."""
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or tuple(mask.shape[1:]) != size:
        raise ValueError(f"the mask is {tuple(mask.shape)}, the image {size[0]}x{size[1]} (H x W): give it that size")
    if mask.shape[0] not in (1, count):
        raise ValueError(f"{mask.shape[0]} masks for {count} images: give one, or one for each")
    holes = list(mask.detach().float().cpu().numpy() >= 0.5)
    return holes * count if len(holes) == 1 else holes


def restore(
    image: torch.Tensor, mask: torch.Tensor, references: torch.Tensor | None = None, seed: int = 0,
    num_samples: int = 4, strategy: str = "auto", force: bool = False, restorer: Any = None,
) -> tuple[torch.Tensor, str]:  # fmt: skip
    """(image [B, H, W, 3] in 0..1, the reports as JSON: a list with one for each image).

    references: [N, H, W, C], photos of the same person. Pixels outside the mask come back as they came, to the bit.
    ValueError in one line for tensors that do not fit together.
    """
    pictures = to_pictures(image)
    holes = to_holes(mask, len(pictures), tuple(image.shape[1:3]))
    shown = [] if references is None else to_pictures(references)
    done, reports = [], []
    for index, (picture, hole) in enumerate(zip(pictures, holes, strict=True)):
        given = image[index].detach().float().cpu()
        given = given.expand(-1, -1, 3) if given.shape[-1] == 1 else given[..., :3]
        if not hole.any():  # nothing is asked for
            done.append(given)
            reports.append({"status": "unchanged", "notices": ["the mask is empty"]})
            continue
        made = (restorer or load_restorer())(
            picture, hole, references=shown, seed=seed, num_samples=num_samples, strategy=strategy, force=force
        )
        filled = torch.from_numpy(made.image.astype(np.float32) / 255)
        done.append(torch.where(torch.from_numpy(hole)[..., None], filled, given))
        reports.append(made.report)
    return torch.stack(done), json.dumps(reports, ensure_ascii=False, indent=1)
