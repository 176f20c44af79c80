"""The inpainters of a loaded model."""

from __future__ import annotations

from typing import Any

from idinpaint.loading.bundle import Bundle, find_gan
from idinpaint.models.weights import hashes
from idinpaint.painting.base import Inpainter


def load_inpainters(bundle: Bundle, gan: str | None, device: str, dtype: Any) -> dict[str, Inpainter | None]:
    """By strategy; each None where the bundle was loaded without its pipeline, for which no network is loaded then.

    gan: as `find_gan` takes it; the generator's hashes are added to the bundle's. Raises InputError.
    """
    folder = find_gan(bundle.store.folder, gan)
    names = ["diffusion", "colorize"]
    names += ["prior"] if (bundle.pipeline_folder / "prior").is_dir() else []  # a model on Stable Diffusion has none
    names += ["gan"] if folder is not None else []
    if bundle.pipeline is None:
        return dict.fromkeys(names)
    from idinpaint.painting.colorize import ColorizeInpainter
    from idinpaint.painting.diffusion import DiffusionInpainter, PriorInpainter

    made: dict[str, Inpainter | None] = {"diffusion": DiffusionInpainter(bundle.pipeline)}
    made["colorize"] = ColorizeInpainter()
    if "prior" in names:
        made["prior"] = PriorInpainter(bundle.pipeline)
    if folder is not None:
        from idinpaint.painting.gan import load_gan

        made["gan"] = load_gan(folder, bundle.pipeline, device, dtype)
        bundle.weights |= hashes(folder, f"gan/{made['gan'].system}")
    return made
