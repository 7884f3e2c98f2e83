"""Makes test/golden/tiny-<family>/<option>.gguf: the checkpoints of tiny_families.py in llama.cpp's layout, float32.

Written with the gguf package as llama.cpp's converter does: q and k permuted for `llama` (Mistral) only; Phi-3's LongRoPE as two
tensors and a factor; GPT-2's Conv1D matrices transposed and its mask buffers left out. Options that GGUF has no keys for
(Qwen's windows, GPT-2's score scales) have no file. A made-up vocabulary lets llama.cpp open them.

Usage: python tiny_families_gguf.py OUT        # OUT is test/golden, after tiny_families.py
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType
from safetensors.numpy import load_file

LLAMA_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
GPT2_NAMES = {
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm", "ln_2": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
       "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}
FILES = ("mistral/window", "mistral/plain", "qwen2/plain", "qwen3/plain", "phi3/plain", "phi3/longrope", "gpt2/prefix")


def gguf_name(name):
    base, kind = name.rsplit(".", 1)
    if base in TOP:
        return f"{TOP[base]}.{kind}"
    _, _, layer, rest = base.split(".", 3)
    return f"blk.{layer}.{(LLAMA_NAMES | GPT2_NAMES)[rest]}.{kind}"


def permute(w, heads):
    """Half-split to interleaved: rows (2, H/2) of each head become (H/2, 2)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def add_vocabulary(writer, size):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([chr(33 + i) for i in range(size - 1)] + ["\u010a"])
    writer.add_token_types([1] * size)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def add_llama_keys(writer, config):
    heads, rope = config["num_attention_heads"], config["rope_parameters"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    if head_dim * heads != config["hidden_size"]:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if rope["rope_type"] == "longrope":
        original = config["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(config["max_position_embeddings"] / original) / math.log(original)))
        for which in ("long", "short"):
            writer.add_tensor(f"rope_factors_{which}.weight", np.array(rope[f"{which}_factor"], np.float32))


def add_gpt2_keys(writer, config):
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def write(folder, path):
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    family = config["model_type"]
    writer = GGUFWriter(path, "llama" if family == "mistral" else family)
    writer.add_name(folder.name)  # without "phi3": llama.cpp expects certain tokens in a vocabulary of that name
    (add_gpt2_keys if family == "gpt2" else add_llama_keys)(writer, config)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(LlamaFileType.ALL_F32)
    add_vocabulary(writer, config["vocab_size"])
    for name, w in tensors.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")) and family == "gpt2":
            continue
        target = gguf_name(name)
        if family == "mistral" and (".attn_q." in target or ".attn_k." in target):
            w = permute(w, config["num_attention_heads" if ".attn_q." in target else "num_key_value_heads"])
        if family == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            w = w.T
        writer.add_tensor(target, np.ascontiguousarray(w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(path, path.stat().st_size)


for name in FILES:
    family, option = name.split("/")
    parent = Path(sys.argv[1]) / f"tiny-{family}"
    write(parent / option, parent / f"{option}.gguf")
