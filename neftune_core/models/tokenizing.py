"""A model's tokenizer, with a padding token that needs no new row in the embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neftune_core.errors import ModelError


def read_tokenizer(folder: Path, model: Any) -> Any:
    """The tokenizer in `folder`; its padding token is one that the embedding of `model` has a row for."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"The folder {folder.name} has no tokenizer that can be read ({type(error).__name__}): it needs a "
            "tokenizer.json beside the weights."
        ) from error
    if not tokenizer("a")["input_ids"]:
        raise ModelError(f"The tokenizer in {folder.name} gives no tokens: its files are broken, so fetch them again.")
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = _padding_token(tokenizer, rows)
    tokenizer.padding_side = "right"
    return tokenizer


def _padding_token(tokenizer: Any, rows: int) -> str:
    """An existing token; padding is masked everywhere, so any will do."""
    for token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, 0):
        if token_id is not None and token_id < rows:
            return str(tokenizer.convert_ids_to_tokens(token_id))
    raise ModelError("The tokenizer and the embedding of this model do not belong together: choose another model.")
