"""Split the large kernels of a trained prior or PD-GAN generator, keeping a share of their rank; nothing is trained.

python training/lower_rank.py FOLDER --share 0.3 --output runs/pdgan-face-split

FOLDER is in diffusers' layout (config.json and the weights). Training on from the result: recipe setting `rank_share`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from idinpaint.models.pconv import PConvPrior
from idinpaint.models.pdgan import PDGANGenerator

KINDS = {kind.__name__: kind for kind in (PConvPrior, PDGANGenerator)}


def split(folder: Path, share: float) -> PConvPrior | PDGANGenerator:
    """The network of the folder at `share` of its large kernels' rank, float32.

    Raises ValueError for a share outside [0, 1], OSError or KeyError for a folder that holds neither network,
    RuntimeError for one that is split already.
    """
    kind = KINDS[json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]]
    full = kind.from_pretrained(folder, local_files_only=True).float()
    options = {key: value for key, value in full.config.items() if not key.startswith("_")}  # no path, no version
    low = kind(**{**options, "rank_share": share})
    low.load_state_dict(full.state_dict())
    return low


def main(argv: list[str] | None = None) -> int:
    """Write the split network. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the full rank, in [0, 1]; 0 leaves all as it is")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        low = split(arguments.folder, arguments.share)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        print(
            f"{arguments.folder}: {reason}; name the folder of a whole prior or PD-GAN and a share in [0, 1]",
            file=sys.stderr,
        )
        return 2
    low.save_pretrained(arguments.output)
    print(f"{arguments.output}: {low.num_parameters() / 1e6:.2f} M weights")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
