"""Write a small GGUF file, and wheels that contain files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from tests import standin

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
}


def gguf_name(name: str) -> str:
    parts = name.removeprefix("model.").removesuffix(".weight").split(".")
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{NAMES['.'.join(parts[2:])]}.weight"
    return f"{NAMES[parts[0]]}.weight"


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Return query or key weights in GGUF's layout for Llama: the two halves of a rotation interleaved."""
    rows, width = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(file: Path) -> None:
    """Write the stand-in model to a GGUF file in float32."""
    from gguf import GGUFWriter

    loaded = load(ModelSettings(source=str(standin.standin()), precision="float32", device="cpu"))
    config, tokenizer = loaded.model.config, loaded.tokenizer
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(standin.CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokenizer))
    _write_tokenizer(writer, tokenizer)
    for name, tensor in loaded.model.model.named_parameters():
        weights = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            weights = interleaved(weights, heads)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer: Any, tokenizer: Any) -> None:
    import json

    inner = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(inner["vocab"], key=inner["vocab"].get))
    writer.add_token_types([3] * 3 + [1] * (len(tokenizer) - 3))
    writer.add_token_merges([" ".join(pair) for pair in inner["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def write_wheel(wheel: Path, files: dict[str, bytes]) -> None:
    """Write a wheel that contains these files, with metadata that match its file name."""
    name, version = wheel.name.split("-")[:2]
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n".encode(),
        "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": b"",
    }
    about = {f"{name}-{version}.dist-info/{file}": content for file, content in about.items()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {**files, **about}.items():
            archive.writestr(name, content)
