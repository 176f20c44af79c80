"""The inpainters of a loaded model."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from idinpaint.loading.bundle import Bundle, find_gan
from idinpaint.painting.base import Inpainter, Parts
from idinpaint.strategies import STRATEGIES


def load_inpainters(bundle: Bundle, gan: str | None, device: str, dtype: Any) -> dict[str, Inpainter | None]:
    """By strategy; each None where the bundle was loaded without its pipeline, for which no network is loaded then.

    gan: as `find_gan` takes it; the generator's hashes are added to the bundle's. Raises InputError.
    """
    parts = Parts(bundle, find_gan(bundle.store.folder, gan), device, dtype)
    names = [name for name, row in STRATEGIES.items() if row.module and (not row.needs or parts.has(row.needs))]
    if bundle.pipeline is None:
        return dict.fromkeys(names)
    return {name: import_module(f"idinpaint.painting.{name}").load(parts) for name in names}
