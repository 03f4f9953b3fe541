"""The arms of a study as stacked LoRA adapters over one frozen base, and saving one of them."""
