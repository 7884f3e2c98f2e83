"""Makes test/golden/tiny-<family>/<option>.gguf: the checkpoints of tiny_families.py in llama.cpp's layout,
float32.

Written with the gguf package as llama.cpp's converter does: q and k permuted for `llama` (Mistral) only;
Phi-3's LongRoPE as two tensors and a factor; GPT-2's Conv1D matrices transposed and its mask buffers left
out; 1 added to Gemma's norms; Falcon's projections reordered from groups to all q, all k, all v, and its
norms of the MLP and attention as attn_norm and attn_norm_2. Options that GGUF has no keys for (Qwen's and
StarCoder 2's windows, GPT-2's score scales, Gemma's query scale, Falcon's sequential form, one key per head
in GPTBigCode) have no file. A made-up vocabulary lets llama.cpp open them.

Usage: python tiny_families_gguf.py OUT [FAMILY/OPTION …]   # OUT is test/golden, after tiny_families.py
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType, RopeScalingType
from safetensors.numpy import load_file

from tiny_models import add_vocabulary

LLAMA_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}
GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
FALCON_NAMES = {
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down", "ln_mlp": "attn_norm", "ln_attn": "attn_norm_2",
}
ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3", "gpt_bigcode": "starcoder"}
GPT2_NAMES = {
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm", "ln_2": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
       "transformer.wte": "token_embd", "transformer.word_embeddings": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}
FILES = ("mistral/window", "mistral/plain", "qwen2/plain", "qwen3/plain", "phi3/plain", "phi3/longrope", "gpt2/prefix", "phi3/partial",
         "gemma2/plain", "gemma3/plain", "starcoder2/plain", "falcon/7b", "falcon/40b", "falcon/11b", "gpt_bigcode/one")


def gguf_name(name, family):
    own = GEMMA_NAMES if family.startswith("gemma") else FALCON_NAMES if family == "falcon" else {}
    base, kind = name.rsplit(".", 1)
    if base in TOP:
        return f"{TOP[base]}.{kind}"
    _, _, layer, rest = base.split(".", 3)
    return f"blk.{layer}.{(LLAMA_NAMES | GPT2_NAMES | own)[rest]}.{kind}"


def permute(w, heads):
    """Half-split to interleaved: rows (2, H/2) of each head become (H/2, 2)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def add_llama_keys(writer, config):
    heads, rope = config["num_attention_heads"], config["rope_parameters"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "norm_epsilon" in config:
        writer.add_layer_norm_eps(config["norm_epsilon"])
    else:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if config["model_type"].startswith("gemma"):
        assert config["query_pre_attn_scalar"] == head_dim
        if config["attn_logit_softcapping"]:
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        if config["final_logit_softcapping"]:
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    rope = rope.get("full_attention", rope)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
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
    if config["model_type"] == "gpt_bigcode":
        writer.add_head_count_kv(1)


def add_falcon_keys(writer, config):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_tensor_data_layout("jploski")
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["ffn_hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(falcon_kv_heads(config))
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])


def falcon_kv_heads(config):
    return config["num_kv_heads"] if config["new_decoder_architecture"] else 1


def ungroup(w, config):
    """Rows of each group (its queries, k, v) to all q, all k, all v."""
    heads, kv = config["num_attention_heads"], falcon_kv_heads(config)
    grouped = w.reshape(kv, heads // kv + 2, config["hidden_size"] // heads, *w.shape[1:])
    return np.concatenate([part.reshape(-1, *w.shape[1:]) for part in (grouped[:, :-2], grouped[:, -2], grouped[:, -1])])


KEYS = {"gpt2": add_gpt2_keys, "gpt_bigcode": add_gpt2_keys, "falcon": add_falcon_keys}


def write(folder, path):
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    family = config["model_type"]
    writer = GGUFWriter(path, ARCHITECTURES.get(family, family))
    writer.add_name(folder.name)  # without "phi3": llama.cpp expects certain tokens in a vocabulary of that name
    KEYS.get(family, add_llama_keys)(writer, config)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(LlamaFileType.ALL_F32)
    add_vocabulary(writer, config["vocab_size"])
    for name, w in tensors.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")) and family == "gpt2":
            continue
        target = gguf_name(name, family)
        if family == "mistral" and (".attn_q." in target or ".attn_k." in target):
            w = permute(w, config["num_attention_heads" if ".attn_q." in target else "num_key_value_heads"])
        if family == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            w = w.T
        if family.startswith("gemma") and name.endswith("norm.weight"):
            w = w + 1
        if family == "falcon" and "query_key_value" in name:
            w = ungroup(w, config)
        writer.add_tensor(target, np.ascontiguousarray(w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(path, path.stat().st_size)


for name in sys.argv[2:] or FILES:
    family, option = name.split("/")
    parent = Path(sys.argv[1]) / f"tiny-{family}"
    write(parent / option, parent / f"{option}.gguf")
