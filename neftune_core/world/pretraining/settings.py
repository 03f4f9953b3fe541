"""The recipe of the bundled model."""

from __future__ import annotations

from neftune_core.settings import Settings, setting


class WorldSettings(Settings):
    """The pretraining recipe; the bundled model was built with the defaults."""

    chunks: int = setting(100, minimum=1, maximum=10_000)
    """Length of the text, in chunks of 2,000 documents."""
    width: int = setting(224, minimum=32, maximum=4096, step=32)
    """Width of the vectors."""
    layers: int = setting(4, minimum=1, maximum=64)
    """Layers of the model."""
    heads: int = setting(4, minimum=1, maximum=64)
    """Attention heads."""
    inner_width: int = setting(448, minimum=32, maximum=16384)
    """Width of the hidden layer of each feed-forward block."""
    batch_rows: int = setting(8, minimum=1, maximum=1024)
    """Rows of 256 tokens per step."""
    learning_rate: float = setting(2.5e-3, minimum=1e-6, maximum=1)
    """Learning rate until the decay begins."""
    decay_share: float = setting(0.25, minimum=0, maximum=1)
    """Share of the steps at the end during which the learning rate falls to zero."""
    warmup_steps: int = setting(100, minimum=0, maximum=10_000)
    """Steps over which the learning rate rises at the start."""
    weight_decay: float = setting(0.1, minimum=0, maximum=10)
    """Weight decay of the matrices."""
    seed: int = setting(1, minimum=0, maximum=2**31)
    """Seed of the initial weights and of the row order."""
    threads: int = setting(2, minimum=1, maximum=256)
    """Number of CPU threads."""
    checkpoint_steps: int = setting(200, minimum=1, maximum=100_000)
    """Steps between checkpoints."""
