"""The recipe of the bundled model."""

from __future__ import annotations

from neftune_core.settings import Settings, setting


class WorldSettings(Settings):
    """The pretraining recipe; the bundled model was built with the defaults."""

    chunks: int = setting(100, "Length of the text, in chunks of 2,000 documents.", minimum=1, maximum=10_000)
    width: int = setting(224, "Width of the vectors.", minimum=32, maximum=4096, step=32)
    layers: int = setting(4, "Layers of the model.", minimum=1, maximum=64)
    heads: int = setting(4, "Attention heads.", minimum=1, maximum=64)
    inner_width: int = setting(448, "Width of the hidden layer of each feed-forward block.", minimum=32, maximum=16384)
    batch_rows: int = setting(8, "Rows of 256 tokens per step.", minimum=1, maximum=1024)
    learning_rate: float = setting(2.5e-3, "Learning rate until the decay begins.", minimum=1e-6, maximum=1)
    decay_share: float = setting(
        0.25, "Share of the steps at the end during which the learning rate falls to zero.", minimum=0, maximum=1
    )
    warmup_steps: int = setting(
        100, "Steps over which the learning rate rises at the start.", minimum=0, maximum=10_000
    )
    weight_decay: float = setting(0.1, "Weight decay of the matrices.", minimum=0, maximum=10)
    seed: int = setting(1, "Seed of the initial weights and of the row order.", minimum=0, maximum=2**31)
    threads: int = setting(2, "Processor threads.", minimum=1, maximum=256)
    checkpoint_steps: int = setting(200, "Steps between two checkpoints.", minimum=1, maximum=100_000)
