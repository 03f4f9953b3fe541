"""Tiny random models of the families that people pick at the end of 2026, beside the classics of `tiny`."""

from __future__ import annotations

from typing import Any

from tests.stress.families.building import (
    COMMON,
    CONTEXT,
    END,
    HEADS,
    LAYERS,
    LLAMA_LIKE,
    PAD,
    START,
    VOCABULARY,
    WIDTH,
    Family,
    builder,
)

_DELTA_NET: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
_QWEN3_5: dict[str, Any] = {**LLAMA_LIKE, **_DELTA_NET, "tie_word_embeddings": True}
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
_PER_LAYER: dict[str, Any] = {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8}
_GEMMA4: dict[str, Any] = {
    **LLAMA_LIKE,
    **_PER_LAYER,
    "layer_types": ["sliding_attention", "full_attention"],
    "global_head_dim": WIDTH // HEADS,
    "num_global_key_value_heads": 2,
    "sliding_window": 64,
    "num_kv_shared_layers": 0,
    "tie_word_embeddings": True,
}
_GRANITE4: dict[str, Any] = {
    **{name: value for name, value in LLAMA_LIKE.items() if name != "head_dim"},
    "embedding_multiplier": 12.0,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.125,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "shared_intermediate_size": 48,
    "tie_word_embeddings": True,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,  # sequences are padded to a multiple of it
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "num_attention_heads": 2}
_SEEING: dict[str, Any] = {
    "qwen3_5": {**_VISION, "depth": 1, "out_hidden_size": WIDTH, "num_position_embeddings": 16},
    "gemma4": {**_VISION, "num_hidden_layers": 1, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 8},
    "gemma3": {**_VISION, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14},
    "mistral3": {**_VISION, "num_hidden_layers": 1, "head_dim": 8, "image_size": 28, "patch_size": 14},
}


def seeing(kind: str, text: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The configuration of a class that reads text and images, with a small image tower."""
    return {"text_config": text, "vision_config": _SEEING[kind], "tie_word_embeddings": True, **more}


RECENT: dict[str, Family] = {
    "Qwen3.5": Family(
        "Qwen3.5, text (gated DeltaNet alongside attention)",
        builder("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", _QWEN3_5),
    ),
    "Gemma 4": Family(
        "Gemma 4, text (per-layer embeddings)",
        builder("Gemma4ForCausalLM", "Gemma4TextConfig", {**_GEMMA4, "final_logit_softcapping": 30.0}),
    ),
    "Gemma 3n": Family(
        "Gemma 3n, text (per-layer embeddings, several vectors per token)",
        builder(
            "Gemma3nForCausalLM",
            "Gemma3nTextConfig",
            {
                **LLAMA_LIKE,
                **_PER_LAYER,
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 64,
                "num_kv_shared_layers": 0,
                "altup_num_inputs": 2,
                "laurel_rank": 4,
                "activation_sparsity_pattern": [0.0, 0.0],
            },
        ),
        layers_take_noise=False,
    ),
    "LFM2": Family(
        "LFM2, LFM2.5 (short convolutions alongside attention)",
        builder(
            "Lfm2ForCausalLM",
            "Lfm2Config",
            {**LLAMA_LIKE, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        ),
    ),
    "Granite 4": Family(
        "Granite 4, dense",
        builder(
            "GraniteMoeHybridForCausalLM",
            "GraniteMoeHybridConfig",
            {**_GRANITE4, "layer_types": ["attention"] * LAYERS, "position_embedding_type": "rope"},
        ),
    ),
    "Granite 4-H": Family(
        "Granite 4, hybrid (Mamba-2 alongside attention)",
        builder(
            "GraniteMoeHybridForCausalLM",
            "GraniteMoeHybridConfig",
            {**_GRANITE4, "layer_types": ["mamba", "attention"], "position_embedding_type": "nope"},
        ),
    ),
    "Falcon-H1": Family(
        "Falcon-H1 (attention and Mamba-2 in parallel, a multiplier on the embeddings)",
        builder(
            "FalconH1ForCausalLM",
            "FalconH1Config",
            {
                **LLAMA_LIKE,
                "mamba_d_ssm": 64,
                "mamba_n_heads": 8,
                "mamba_d_head": 8,
                "mamba_d_state": 8,
                "mamba_chunk_size": 16,
                "embedding_multiplier": 5.0,
                "lm_head_multiplier": 0.5,
                "tie_word_embeddings": True,
            },
        ),
    ),
    "SmolLM3": Family(
        "SmolLM3 (some layers without positional encoding)",
        builder(
            "SmolLM3ForCausalLM",
            "SmolLM3Config",
            {**LLAMA_LIKE, "no_rope_layers": [1, 0], "layer_types": ["full_attention"] * LAYERS},
        ),
    ),
    "Ministral 3": Family(
        "Ministral 3",
        builder(
            "Ministral3ForCausalLM",
            "Ministral3Config",
            {
                **LLAMA_LIKE,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 10_000.0,
                    "factor": 2.0,
                    "original_max_position_embeddings": CONTEXT // 2,
                    "llama_4_scaling_beta": 0.1,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                    "beta_fast": 32.0,
                    "beta_slow": 1.0,
                },
            },
        ),
    ),
    "OLMo-hybrid": Family(
        "OLMo-hybrid (gated DeltaNet alongside attention)",
        builder(
            "OlmoHybridForCausalLM",
            "OlmoHybridConfig",
            {**LLAMA_LIKE, **_DELTA_NET, "rope_parameters": None},
        ),
    ),
    "ModernBERT-decoder": Family(
        "ModernBERT decoder, Ettin",
        builder(
            "ModernBertDecoderForCausalLM",
            "ModernBertDecoderConfig",
            {
                **COMMON,
                "cls_token_id": START,
                "sep_token_id": END,
                "hidden_size": WIDTH,
                "intermediate_size": 48,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS,
                "max_position_embeddings": CONTEXT,
                "local_attention": 64,
                "layer_types": ["full_attention", "sliding_attention"],
            },
        ),
    ),
    "Qwen3-MoE": Family(
        "Qwen3-MoE (experts in fused weights)",
        builder("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**LLAMA_LIKE, **_EXPERTS}),
    ),
    "Mixtral": Family(
        "Mixtral (experts in fused weights)",
        builder(
            "MixtralForCausalLM",
            "MixtralConfig",
            {**LLAMA_LIKE, "num_local_experts": 4, "num_experts_per_tok": 2},
        ),
    ),
    "RecurrentGemma": Family(
        "RecurrentGemma (gated linear recurrences alongside local attention)",
        builder(
            "RecurrentGemmaForCausalLM",
            "RecurrentGemmaConfig",
            {
                **{
                    name: value for name, value in LLAMA_LIKE.items() if name not in ("head_dim", "num_key_value_heads")
                },
                "lru_width": WIDTH,
                "attention_window_size": 64,
                "block_types": ["recurrent", "attention"],
                "logits_soft_cap": 30.0,
            },
        ),
    ),
    "Mamba": Family(
        "Mamba (selective state spaces)",
        builder(
            "MambaForCausalLM",
            "MambaConfig",
            {**COMMON, "hidden_size": WIDTH, "state_size": 8, "num_hidden_layers": LAYERS, "time_step_rank": 4},
        ),
    ),
    "Mamba-2": Family(
        "Mamba-2",
        builder(
            "Mamba2ForCausalLM",
            "Mamba2Config",
            {
                **COMMON,
                "hidden_size": WIDTH,
                "state_size": 8,
                "num_hidden_layers": LAYERS,
                "num_heads": 8,
                "head_dim": 8,
                "n_groups": 1,
                "chunk_size": 16,
            },
        ),
    ),
    "Falcon-Mamba": Family(
        "Falcon-Mamba",
        builder(
            "FalconMambaForCausalLM",
            "FalconMambaConfig",
            {**COMMON, "hidden_size": WIDTH, "state_size": 8, "num_hidden_layers": LAYERS, "time_step_rank": 4},
        ),
    ),
    "RWKV": Family(
        "RWKV",
        builder(
            "RwkvForCausalLM",
            "RwkvConfig",
            {
                "vocab_size": VOCABULARY,
                "bos_token_id": START,
                "eos_token_id": END,
                "pad_token_id": PAD,
                "hidden_size": WIDTH,
                "num_hidden_layers": LAYERS,
                "context_length": CONTEXT,
            },
        ),
    ),
    "xLSTM": Family(
        "xLSTM",
        builder(
            "xLSTMForCausalLM",
            "xLSTMConfig",
            {
                **COMMON,
                "hidden_size": 4 * WIDTH,  # its heads are multiples of 32 wide
                "num_hidden_layers": LAYERS,
                "num_heads": 2,
                "chunk_size": 16,
                "ffn_round_up_to_multiple_of": 8,
                "mode": "inference",
            },
        ),
    ),
}

# As published: classes that read text and images.
PUBLISHED: dict[str, Family] = {
    "Qwen3.5, as published": Family(
        "Qwen3.5 with its image tower",
        builder("Qwen3_5ForConditionalGeneration", "Qwen3_5Config", seeing("qwen3_5", _QWEN3_5)),
    ),
    "Gemma 4, as published": Family(
        "Gemma 4 with its image tower",
        builder("Gemma4ForConditionalGeneration", "Gemma4Config", seeing("gemma4", _GEMMA4, audio_config=None)),
    ),
    "Gemma 3, as published": Family(
        "Gemma 3 with its image tower",
        builder(
            "Gemma3ForConditionalGeneration",
            "Gemma3Config",
            seeing("gemma3", {**LLAMA_LIKE, "sliding_window": 64}, mm_tokens_per_image=4),
        ),
    ),
    "Ministral 3, as published": Family(
        "Ministral 3 with its image tower",
        builder(
            "Mistral3ForConditionalGeneration",
            "Mistral3Config",
            seeing("mistral3", {**LLAMA_LIKE, "model_type": "ministral3"}, vision_feature_layer=-1),
        ),
    ),
}
