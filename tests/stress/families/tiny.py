"""The model families under test, each as a tiny random model of the real architecture.

Nothing is downloaded: a model is made from its configuration, with the shapes of a family's structure (tied or untied
head, scaled or projected embeddings, post-norm) and very little of its size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.stress.families.building import (
    COMMON,
    CONTEXT,
    END,
    HEADS,
    LAYERS,
    LLAMA_LIKE,
    PAD,
    SEED,
    VOCABULARY,
    WIDTH,
    Family,
    builder,
)
from tests.stress.families.recent import RECENT

_OPT: dict[str, Any] = {
    **COMMON,
    "hidden_size": WIDTH,
    "ffn_dim": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "layerdrop": 0.0,
}
_BERT_LIKE: dict[str, Any] = {
    **COMMON,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "is_decoder": True,
}
_T5: dict[str, Any] = {
    **COMMON,
    "d_model": WIDTH,
    "d_kv": WIDTH // HEADS,
    "d_ff": 48,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "dropout_rate": 0.0,
    "decoder_start_token_id": PAD,
}
_BART_LIKE: dict[str, Any] = {
    **COMMON,
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": CONTEXT,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "decoder_start_token_id": END,
    "forced_eos_token_id": END,
}


def _untied(build: Callable[[], Any]) -> Callable[[], Any]:
    """Build the model with an untied head: T5's configuration always ties it, but the published weights do not."""

    def build_untied() -> Any:
        import torch

        model = build()
        generator = torch.Generator().manual_seed(SEED)
        head = torch.randn(model.lm_head.weight.shape, generator=generator) / WIDTH**0.5
        model.lm_head.weight = torch.nn.Parameter(head)
        return model

    return build_untied


CLASSICS: dict[str, Family] = {
    "Llama": Family(
        "Llama, SmolLM, Mistral",
        builder("LlamaForCausalLM", "LlamaConfig", {**LLAMA_LIKE, "tie_word_embeddings": True}),
    ),
    "Qwen2": Family(
        "Qwen2 (biases in attention)",
        builder("Qwen2ForCausalLM", "Qwen2Config", {**LLAMA_LIKE, "tie_word_embeddings": True}),
    ),
    "Qwen3": Family(
        "Qwen3 (normalised queries and keys)",
        builder("Qwen3ForCausalLM", "Qwen3Config", {**LLAMA_LIKE, "tie_word_embeddings": True}),
    ),
    "GPT-2": Family(
        "GPT-2 (learnt positions, transposed weights)",
        builder(
            "GPT2LMHeadModel",
            "GPT2Config",
            {
                **COMMON,
                "n_embd": WIDTH,
                "n_layer": LAYERS,
                "n_head": HEADS,
                "n_positions": CONTEXT,
                "resid_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "attn_pdrop": 0.0,
            },
        ),
    ),
    "OPT": Family("OPT (pre-norm, 125m and larger)", builder("OPTForCausalLM", "OPTConfig", {**_OPT})),
    "OPT-350m": Family(
        "OPT-350m (post-norm, an embedding narrower than the model)",
        builder(
            "OPTForCausalLM",
            "OPTConfig",
            {**_OPT, "word_embed_proj_dim": WIDTH // 2, "do_layer_norm_before": False},
        ),
    ),
    "GPT-NeoX": Family(
        "GPT-NeoX, Pythia (parallel residuals, untied head)",
        builder(
            "GPTNeoXForCausalLM",
            "GPTNeoXConfig",
            {
                **COMMON,
                "hidden_size": WIDTH,
                "intermediate_size": 48,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS,
                "max_position_embeddings": CONTEXT,
                "hidden_dropout": 0.0,
                "attention_dropout": 0.0,
            },
        ),
    ),
    "Gemma 3": Family(
        "Gemma 3, text (embeddings scaled inside their module)",
        builder(
            "Gemma3ForCausalLM",
            "Gemma3TextConfig",
            {
                **LLAMA_LIKE,
                "sliding_window": 64,
                "query_pre_attn_scalar": WIDTH // HEADS,
                "final_logit_softcapping": 30.0,
            },
        ),
    ),
    "Granite": Family(
        "Granite (embeddings scaled after their module, scaled logits)",
        builder(
            "GraniteForCausalLM",
            "GraniteConfig",
            {
                **{name: value for name, value in LLAMA_LIKE.items() if name != "head_dim"},
                "embedding_multiplier": 12.0,
                "logits_scaling": 8.0,
                "residual_multiplier": 0.22,
                "attention_multiplier": 0.125,
                "tie_word_embeddings": True,
            },
        ),
    ),
    "BERT": Family(
        "BERT as a decoder (post-norm, LayerNorm after the embeddings)",
        builder("BertLMHeadModel", "BertConfig", {**_BERT_LIKE}),
        pretrained_for_this=False,
    ),
    "RoBERTa": Family(
        "RoBERTa as a decoder (positions counted from the padding)",
        builder("RobertaForCausalLM", "RobertaConfig", {**_BERT_LIKE, "pad_token_id": 1, "bos_token_id": 0}),
        pretrained_for_this=False,
    ),
    "T5": Family(
        "T5 (encoder-decoder, tied and scaled head)",
        builder("T5ForConditionalGeneration", "T5Config", {**_T5, "tie_word_embeddings": True}),
        encoder_decoder=True,
    ),
    "Flan-T5": Family(
        "Flan-T5 (encoder-decoder, gated feed-forward, untied head)",
        _untied(
            builder(
                "T5ForConditionalGeneration",
                "T5Config",
                {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            )
        ),
        encoder_decoder=True,
    ),
    "BART": Family(
        "BART (encoder-decoder, learnt positions, a bias on the logits)",
        builder("BartForConditionalGeneration", "BartConfig", {**_BART_LIKE, "scale_embedding": True}),
        encoder_decoder=True,
    ),
    "Marian": Family(
        "Marian (encoder-decoder, embeddings scaled after their module)",
        builder(
            "MarianMTModel",
            "MarianConfig",
            {**_BART_LIKE, "pad_token_id": VOCABULARY - 1, "decoder_start_token_id": VOCABULARY - 1}
            | {"bos_token_id": None, "eos_token_id": PAD, "forced_eos_token_id": PAD, "scale_embedding": True},
        ),
        encoder_decoder=True,
    ),
}


FAMILIES: dict[str, Family] = {**CLASSICS, **RECENT}

REPRESENTATIVES = (
    "Llama",
    "GPT-2",
    "OPT-350m",
    "Gemma 3",
    "Granite",
    "BERT",
    "T5",
    "BART",
    "Qwen3.5",
    "Gemma 3n",
    "Mamba",
    "RWKV",
    "Qwen3-MoE",
)
"""A selection of families on which the repeated checks are fast. Others differ in structure too; their cases are slow.

In this order: rotated positions; learned positions and a merged projection; projected embeddings and post-norm; scaled
embeddings; multipliers; a head with layers of its own; an encoder-decoder with relative positions, and one with learned
positions; linear attention beside full attention; an embedding table per layer; states without attention, of a
state-space model and of a recurrent one; experts.
"""
