"""Random models of common families, built from their configurations."""

from __future__ import annotations

from typing import Any

import torch
import transformers

LLAMA_LIKE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
OPT = {
    "vocab_size": 60,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
}

# family: (class, configuration, linear modules per layer, linear modules in the attention of a layer)
FAMILIES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "llama": ("Llama", LLAMA_LIKE, 7, 4),
    "qwen2": ("Qwen2", LLAMA_LIKE, 7, 4),
    "qwen3": ("Qwen3", {**LLAMA_LIKE, "head_dim": 8}, 7, 4),
    "granite": ("Granite", {**LLAMA_LIKE, "logits_scaling": 4.0}, 7, 4),
    "gemma2": ("Gemma2", {**LLAMA_LIKE, "head_dim": 8, "final_logit_softcapping": 0.5}, 7, 4),
    "cohere": ("Cohere", {**LLAMA_LIKE, "logit_scale": 0.25}, 7, 4),
    "gpt2": ("GPT2", {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, 4, 2),
    "opt-125m": ("OPT", {**OPT, "word_embed_proj_dim": 32}, 6, 4),
    "opt-350m": ("OPT", {**OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}, 6, 4),
    "gpt-neox": ("GPTNeoX", {key: value for key, value in LLAMA_LIKE.items() if "key_value" not in key}, 4, 2),
}


def build(family: str, **changes: Any) -> Any:
    """Return a random model of `family` in evaluation mode."""
    name, settings, _, _ = FAMILIES[family]
    classes = {"GPT2": "GPT2LMHeadModel"}
    specials = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    config = getattr(transformers, f"{name}Config")(**{**specials, **settings, **changes})
    torch.manual_seed(0)
    return getattr(transformers, classes.get(name, f"{name}ForCausalLM"))(config).eval()
