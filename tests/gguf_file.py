"""Writes a small Llama with its tokenizer as a GGUF file, in float32, with the package that others read it with."""

import json

import gguf
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tailkeep.lab.causal_lm.tokenizer import train_tokenizer

_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_REST = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def small_llama(texts, *, seed=0):
    """A network of two layers, and a tokenizer trained on `texts`."""
    tokenizer = train_tokenizer(texts, vocab_size=300)
    # transformers adds this word to the tokenizer of a GGUF file that lacks it.
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval(), tokenizer


def write_gguf(path, network, tokenizer, *, without=()):
    """Write both into the file `path`, but for the tensors named in `without`."""
    config = network.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in tokenizer.all_special_tokens else 1 for word in words])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    for name, weights in network.state_dict().items():
        tensor = weights.float().numpy()
        if "q_proj" in name:
            tensor = _interleaved(tensor, config.num_attention_heads)
        if "k_proj" in name:
            tensor = _interleaved(tensor, config.num_key_value_heads)
        if (renamed := _name(name)) not in without:
            writer.add_tensor(renamed, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(name):
    stem = name.removesuffix(".weight")
    if stem in _REST:
        return f"{_REST[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_PARTS[part]}.weight"


def _interleaved(weights, heads):
    """Rows in the order of GGUF, whose rotary halves alternate within a head."""
    rows, width = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
