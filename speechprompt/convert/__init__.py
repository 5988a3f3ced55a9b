"""Official checkpoints into this project's own formats, one module per family."""
