"""Tiny models of many families: the settings that make each one small, for `AutoModelForCausalLM.from_config`.

Rule: every model here is deterministic in training mode, so that two copies of it can be compared.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 97

_USUAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_USUAL, "num_key_value_heads": 2}
_HEADS_OF_8 = {**_GROUPED, "head_dim": 8}
_EXPERTS = {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL = {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
_WITHOUT_DROPOUT = {"attention_dropout": 0.0, "hidden_dropout": 0.0}

FAMILIES: dict[str, dict[str, Any]] = {
    "apertus": _GROUPED,
    "arcee": _GROUPED,
    "biogpt": {**_USUAL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layerdrop": 0.0},
    "bitnet": _GROUPED,
    "bloom": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "cohere": _GROUPED,
    "cohere2": {**_GROUPED, "sliding_window": 8, "head_dim": 8},
    "codegen": {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "deepseek_v3": {
        **_GROUPED, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
        "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
    },
    "diffllama": {**_GROUPED, "head_dim": 8},
    "ernie4_5": _HEADS_OF_8,
    "ernie4_5_moe": {
        **_GROUPED, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1,
        "moe_num_shared_experts": 1,
    },
    "exaone4": {**_GROUPED, "sliding_window": 8, "sliding_window_pattern": 2},
    "falcon": {**_USUAL, "hidden_dropout": 0.0, "attention_dropout": 0.0},
    "falcon_h1": {
        **_HEADS_OF_8, "lm_head_multiplier": 0.3, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8,
        "mamba_d_state": 8, "mamba_chunk_size": 8,
    },
    "falcon_mamba": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "gemma": _HEADS_OF_8,
    "gemma2": {**_HEADS_OF_8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_HEADS_OF_8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "glm4": _HEADS_OF_8,
    "gpt2": {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "gpt_neox": {**_USUAL, **_WITHOUT_DROPOUT},
    "gpt_oss": {**_LOCAL, "head_dim": 8, "sliding_window": 8},
    "gptj": {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "granite": {**_GROUPED, "logits_scaling": 6.0},
    "granitemoe": {**_LOCAL, "logits_scaling": 3.0},
    "helium": _HEADS_OF_8,
    "hunyuan_v1_dense": _HEADS_OF_8,
    "jamba": {
        **_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "lfm2": {**_GROUPED, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
    "llama": _GROUPED,
    "llama4_text": {
        **_LOCAL, "head_dim": 8, "intermediate_size_mlp": 48, "num_experts_per_tok": 1, "attention_chunk_size": 32,
        "pad_token_id": 0,
    },
    "mamba": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "minimax": {**_LOCAL, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "block_size": 8},
    "mistral": _GROUPED,
    "mixtral": {**_LOCAL, "output_router_logits": True},
    "modernbert-decoder": {
        **_USUAL, "attention_dropout": 0.0, "embedding_dropout": 0.0, "mlp_dropout": 0.0, "local_attention": 8,
        "cls_token_id": 1, "sep_token_id": 2,
    },
    "mpt": {
        "vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": 64,
    },
    "nanochat": _HEADS_OF_8,
    "nemotron": _GROUPED,
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "olmo3": {**_GROUPED, "sliding_window": 8},
    "olmoe": {**_EXPERTS, "output_router_logits": True},
    "opt": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 64, "word_embed_proj_dim": 32, "dropout": 0.0, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "phi": _USUAL,
    "phi3": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": _HEADS_OF_8,
    "qwen3_moe": {**_EXPERTS, "head_dim": 8, "output_router_logits": True},
    "smollm3": _GROUPED,
    "stablelm": _GROUPED,
    "starcoder2": {**_GROUPED, "residual_dropout": 0.0, "embedding_dropout": 0.0},
    "vaultgemma": {**_HEADS_OF_8, "sliding_window": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 20.0},
    "xglm": {
        "vocab_size": VOCABULARY, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4,
        "max_position_embeddings": 64, "dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "xlstm": {
        "vocab_size": VOCABULARY, "hidden_size": 128, "num_heads": 4, "num_blocks": 2, "embedding_dim": 128,
        "chunkwise_kernel": "chunkwise--native_autograd", "sequence_kernel": "native_sequence__native",
        "step_kernel": "native", "chunk_size": 8, "use_cache": False, "mode": "train",
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip

REPRESENTATIVES = ("llama", "gpt2", "gemma2", "cohere", "qwen3_moe", "modernbert-decoder")
"""Untied; tied with convolutions; capped; scaled; experts with an auxiliary loss; a layer before the output layer."""


def tiny(family: str, *, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A small model with random weights, in float32 and training mode."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**FAMILIES[family], **settings})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    with torch.no_grad():
        # Logits far enough from 0 for caps to bend them and for predictions to differ.
        model.get_output_embeddings().weight.mul_(20)
    return model
