"""Photos and masks as pixels and as files: reading, keeping known pixels, writing."""
