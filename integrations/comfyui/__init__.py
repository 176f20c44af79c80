"""A node for ComfyUI: restore a damaged portrait. Lies in ComfyUI/custom_nodes/idinpaint; see README.md."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from idinpaint.strategies import CHOICES

from .restore import restore


class RestorePortrait(io.ComfyNode):
    """image, mask, references -> image, report."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="IdinpaintRestorePortrait",
            display_name="Restore portrait (idinpaint)",
            category="image/inpainting",
            description="Fills the masked part of a portrait and keeps the person; leaves it marked where it cannot.",
            inputs=[
                io.Image.Input("image"),
                io.Mask.Input("mask", tooltip="white = to be filled"),
                io.Image.Input("references", optional=True, tooltip="other photos of the same person, as a batch"),
                io.Int.Input("seed", default=0, min=0, max=2**32 - 1, control_after_generate=True),
                io.Int.Input("num_samples", default=4, min=1, max=64, tooltip="candidates; the best one is kept"),
                io.Combo.Input("strategy", options=list(CHOICES), default="auto"),
                io.Boolean.Input("force", default=False, tooltip="paint even where too much of the face is hidden"),
            ],
            outputs=[io.Image.Output(display_name="image"), io.String.Output(display_name="report")],
        )

    @classmethod
    def execute(cls, image, mask, seed, num_samples, strategy, force, references=None) -> io.NodeOutput:
        """Restores each image of the batch."""
        return io.NodeOutput(*restore(image, mask, references, seed, num_samples, strategy, force))


class IdinpaintExtension(ComfyExtension):
    """What ComfyUI asks for."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes."""
        return [RestorePortrait]


async def comfy_entrypoint() -> IdinpaintExtension:
    """Called once by ComfyUI."""
    return IdinpaintExtension()
