"""Settings of the training and held-out data."""

from __future__ import annotations

from pydantic import Field

from neftune_core.settings import Settings, setting

TOO_LONG = {"truncate": "Cut the response", "drop": "Leave the row out"}
TRAINED_TURNS = {"all": "All replies", "last": "The last reply only"}


class DataSettings(Settings):
    """Source of the instruction data, and how it is read, split and cut."""

    source: str = setting(
        "starter:open-ended",
        "starter:NAME, file:PATH (JSONL, JSON, CSV or Parquet), or hub:OWNER/NAME.",
        label="Data",
        max_length=2000,
    )
    configuration: str = setting("", "Configuration of a hub data set, if it has several.", max_length=200)
    split: str = setting("train", "Split of a hub data set.", max_length=200)
    layout: str = setting("", "Name of the row layout; if empty, it is detected.", max_length=50)
    columns: dict[str, str] = Field(default={}, description="Columns by part, if detection is wrong.")
    rows: int = setting(
        2000,
        "Maximum number of rows to read, starting with the first.",
        minimum=2,
        maximum=10_000_000,
        slider_maximum=20_000,
        step=1,
        unit="rows",
    )
    held_out_share: float = setting(
        0.2,
        "Share of the rows kept out of training, drawn at random.",
        minimum=0.0,
        maximum=0.9,
        step=0.05,
        label="Held out",
    )
    held_out_source: str = setting(
        "",
        "A separate held-out file (file:PATH). If empty, a share of the rows is held out.",
        label="Held-out source",
        max_length=2000,
    )
    split_seed: int = setting(0, "Seed of the random split.", minimum=0, maximum=2**31 - 1, step=1)
    maximum_length: int = setting(
        512,
        "Maximum length of prompt and response together (for encoder-decoders, of each separately).",
        minimum=16,
        maximum=131_072,
        slider_maximum=2048,
        step=16,
        unit="tokens",
    )
    too_long: str = setting("truncate", "What happens to longer rows.", choices=TOO_LONG)
    trained_turns: str = setting("all", "Which replies of a conversation are trained on.", choices=TRAINED_TURNS)
    system: str = setting("", "System prompt added to every row that has none.", max_length=20_000)

    def within(self, context: int) -> DataSettings:
        """Return the settings with the row length limited to a context of `context` tokens."""
        return self.model_copy(update={"maximum_length": min(self.maximum_length, context)})
