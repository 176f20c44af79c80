"""Windows round hidden features, cut from the shards of refine_bank.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from hidden_masks import component_centres, hidden_shares, rim_centres
from refine_bank import Painted, joined, read_bank

from idinpaint.models.critics import KINDS
from idinpaint.models.tensors import heatmap_tensor
from idinpaint.types import InputError

CELL = 8  # px: windows begin at multiples of it, so that landmark maps can be cut as well
EYES = KINDS.index("eyes")
MOST_HIDDEN = 0.35  # of a photo; beyond it nobody is restored


@dataclass
class Windows:
    """One kind's windows, float32 in [-1, 1]; flip: [N, 1, 1, 1], 1 where the critic sees them mirrored."""

    image: torch.Tensor
    painted: torch.Tensor
    prior: torch.Tensor
    mask: torch.Tensor
    maps: torch.Tensor
    flip: torch.Tensor

    def to(self, device: torch.device) -> Windows:
        """The same elsewhere."""
        return Windows(*(getattr(self, field.name).to(device) for field in fields(self)))

    def critic_view(self, picture: torch.Tensor) -> torch.Tensor:
        """Right eyes as left ones."""
        return torch.where(self.flip > 0, picture.flip(-1), picture)


class Bank:
    """Painted photos and where windows of each kind lie."""

    def __init__(self, folder: Path, split: str, side: int) -> None:
        self.folder, self.split, self.side = folder, split, side
        self.known: set[str] = set()
        self.data: Painted | None = None
        self.places: list[np.ndarray] = []
        self.take_up()
        if self.data is None:
            raise InputError(f"{folder}: no shard {split}-*.npz; write them with training/refine_bank.py")

    def take_up(self) -> int:
        """Read new shards; the number of photos."""
        new = list(read_bank(self.folder, self.split, self.known))
        if new:
            self.data = joined([self.data, *new] if self.data else new)
            self._index()
        return len(self.data.image) if self.data else 0

    def _index(self) -> None:
        """For each kind rows (photo, x, y, mirrored): the middle of a hidden component or of a rim."""
        points = torch.from_numpy(self.data.points)
        mask = torch.from_numpy(self.data.mask)[:, None].float()
        centres = component_centres(points)
        hidden = (hidden_shares(centres, mask, 80) > 0.3).numpy()
        torch.manual_seed(0)
        rim = rim_centres(mask, 80).numpy()
        kinds: list[list[tuple]] = [[] for _ in KINDS]
        for photo in np.flatnonzero(self.data.mask.mean((1, 2)) < MOST_HIDDEN).tolist():
            for component, kind in enumerate((0, 0, 1, 2, 3)):
                if hidden[photo, component]:
                    kinds[kind].append((photo, *centres[photo, component].tolist(), component == 1))
            kinds[4].append((photo, *rim[photo], False))
        self.places = [np.array(rows, np.float32).reshape(-1, 4) for rows in kinds]

    def windows(self, kind: int, rows: Sequence[int], rng: np.random.Generator | None) -> Windows:
        """rng: moves and mirrors them; None for neither."""
        height, width = self.side, self.side + (self.side // 2 if kind == EYES else 0)
        parts: dict[str, list] = {name: [] for name in ("image", "painted", "prior", "mask")}
        maps, flips = [], []
        for photo, x, y, mirrored in self.places[kind][rows]:
            photo = int(photo)
            jitter = rng.uniform(-10, 10, 2) if rng is not None else (0, 0)
            left = CELL * round((np.clip(x - width / 2 + jitter[0], 0, 256 - width)) / CELL)
            top = CELL * round((np.clip(y - height / 2 + jitter[1], 0, 256 - height)) / CELL)
            cut = np.s_[top : top + height, left : left + width]
            for name, part in parts.items():
                part.append(getattr(self.data, name)[photo][cut])
            points = torch.from_numpy(self.data.predicted[photo])[None]
            cells = np.s_[0, :, top // CELL : (top + height) // CELL, left // CELL : (left + width) // CELL]
            maps.append(heatmap_tensor(points, 256 // CELL)[cells])
            flips.append(float(mirrored))
        pictures = [torch.from_numpy(np.stack(parts[n])).permute(0, 3, 1, 2).float() / 127.5 - 1
                    for n in ("image", "painted", "prior")]  # fmt: skip
        mask = torch.from_numpy(np.stack(parts["mask"]))[:, None].float()
        return Windows(*pictures, mask, torch.stack(maps), torch.tensor(flips).view(-1, 1, 1, 1))
