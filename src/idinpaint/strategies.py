"""The strategies of filling a face, by name, from the least to the most cautious.

A new one is a module painting/NAME.py with `load(parts) -> Inpainter` (painting/base.py) and a row here; the command
line, the controller's file, the report's schema and the measurements take it from here. Nothing is imported yet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Strategy:
    """outcome: what would become of the face, in words. module: there is a painting/NAME.py, else nothing but the
    background's fill happens. needs: part of the model without which it is not offered. network: it invents features,
    and looks at reference photos. unpainted: it counts as abstained. in_ladder: the controller's file may name it.
    asked: a user may ask for it. helps: where no candidate of the diffusion is believable, it paints one more.
    instead: what paints where the ladder names this one and the model lacks it.
    """

    outcome: str
    module: bool = True
    needs: str = ""
    network: bool = False
    unpainted: bool = False
    in_ladder: bool = True
    asked: bool = True
    helps: bool = False
    instead: str = ""


STRATEGIES = {
    "telea": Strategy("it would be filled from its surroundings", module=False),
    "prior": Strategy("it would be painted by prior", needs="prior", network=True, in_ladder=False, helps=True),
    "gan": Strategy("it would be painted by gan", needs="gan", network=True, helps=True, instead="diffusion"),
    "diffusion": Strategy("it would be painted by diffusion", network=True),
    "colorize": Strategy("the hole would only be given a smooth tone", unpainted=True),
    "abstain": Strategy("it would not be painted", module=False, unpainted=True, asked=False),
}
CHOICES = ("auto", *(name for name, row in STRATEGIES.items() if row.asked))  # what a user may ask for
NETWORKS = tuple(name for name, row in STRATEGIES.items() if row.network)
OFFERED = tuple(name for name, row in STRATEGIES.items() if row.in_ladder)
PAINTS = tuple(name for name in OFFERED if name in NETWORKS)  # of the ladder
HELPERS = tuple(name for name, row in STRATEGIES.items() if row.helps)
UNPAINTED = tuple(name for name, row in STRATEGIES.items() if row.unpainted)
