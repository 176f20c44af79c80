"""Networks, diffusers pipelines, and the store of their weights."""
