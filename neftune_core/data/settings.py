"""Settings of the training and held-out data."""

from __future__ import annotations

from pydantic import Field

from neftune_core.settings import Settings, setting

TOO_LONG = {"truncate": "Cut the response", "drop": "Leave the row out"}
TRAINED_TURNS = {"all": "All replies", "last": "The last reply only"}


class DataSettings(Settings):
    """Source of the instruction data, and how it is read, split and cut."""

    source: str = setting("starter:open-ended", label="Data", max_length=2000)
    """starter:NAME, file:PATH (JSONL, JSON, CSV or Parquet), or hub:OWNER/NAME."""
    configuration: str = setting("", max_length=200)
    """Configuration of a hub data set, if it has several."""
    split: str = setting("train", max_length=200)
    """Split of a hub data set."""
    layout: str = setting("", max_length=50)
    """Name of the row layout; if empty, it is detected."""
    columns: dict[str, str] = Field(default={})
    """Columns by part of the layout, if detection is wrong."""
    rows: int = setting(2000, minimum=2, maximum=10_000_000, slider_maximum=20_000, step=1, unit="rows")
    """Maximum number of rows to read, starting with the first."""
    held_out_share: float = setting(0.2, minimum=0.0, maximum=0.9, step=0.05, label="Held out")
    """Share of the rows kept out of training, drawn at random."""
    held_out_source: str = setting("", label="Held-out source", max_length=2000)
    """Source of separate held-out rows, such as file:PATH. If empty, the held-out rows of the starter set are used if
    it has any; otherwise, a share of the rows is held out."""
    split_seed: int = setting(0, minimum=0, maximum=2**31 - 1, step=1)
    """Seed of the random split."""
    maximum_length: int = setting(512, minimum=16, maximum=131_072, slider_maximum=2048, step=16, unit="tokens")
    """Maximum length of prompt and response together (for encoder-decoders, of each separately)."""
    too_long: str = setting("truncate", choices=TOO_LONG)
    """What happens to longer rows."""
    trained_turns: str = setting("all", choices=TRAINED_TURNS)
    """Which replies of a conversation are trained on."""
    system: str = setting("", max_length=20_000)
    """System prompt added to every row that has none."""

    def within(self, context: int) -> DataSettings:
        """Return the settings with the row length limited to a context of `context` tokens."""
        return self.model_copy(update={"maximum_length": min(self.maximum_length, context)})
