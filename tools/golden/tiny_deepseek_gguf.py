"""Makes test/golden/tiny-deepseek/<option>.gguf: checkpoints of tiny_deepseek.py in llama.cpp's layout,
float32.

Written with the gguf package as llama.cpp's converter does (DeepseekV2Model): the expansion of the latent as
two tensors, of keys [heads, rank, dims] (transposed per head) and of values [heads, dims, rank], experts
stacked, one key-value head as wide as the latent and the rotated key. `v3-joint` is the same as `v3` as the
converter wrote it before: one attn_kv_b, all heads' own sizes. Options with biases, and halves rotated, have
no file: there are no such tensors or keys.

Usage: python tiny_deepseek_gguf.py OUT [NAME …]   # OUT is test/golden, after tiny_deepseek.py
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from gguf import ExpertGatingFuncType, GGUFWriter, LlamaFileType, RopeScalingType
from safetensors.numpy import load_file

from tiny_models import add_vocabulary

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b", "self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp", "mlp.experts.gate_proj": "ffn_gate_exps", "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
FILES = {"v2-lite": "v2-lite", "v2": "v2", "v3": "v3", "v3-joint": "v3"}


def add_keys(writer, config, joint):
    heads, rank, rotated = config["num_attention_heads"], config["kv_lora_rank"], config["qk_rope_head_dim"]
    key, value = config["qk_nope_head_dim"] + rotated, config["v_head_dim"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if config["q_lora_rank"] is not None:
        writer.add_q_lora_rank(config["q_lora_rank"])
    writer.add_kv_lora_rank(rank)
    writer.add_head_count_kv(heads if joint else 1)
    writer.add_key_length(key if joint else rank + rotated)
    writer.add_value_length(value if joint else rank)
    if not joint:
        writer.add_key_length_mla(key)
        writer.add_value_length_mla(value)
    writer.add_rope_dimension_count(rotated)
    add_rope(writer, config["rope_parameters"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_weights_norm(config["norm_topk_prob"])
    third = config["model_type"] == "deepseek_v3"
    writer.add_expert_gating_func(ExpertGatingFuncType.SIGMOID if third else ExpertGatingFuncType.SOFTMAX)
    if config.get("topk_method") != "greedy":
        writer.add_expert_group_count(config["n_group"])
        writer.add_expert_group_used_count(config["topk_group"])


def add_rope(writer, rope):
    # What YaRN does to cosines and sines is not in the file: it must be nothing.
    assert rope["rope_type"] == "yarn" and rope["mscale"] == rope["mscale_all_dim"]
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def stacked(tensors):
    """A tensor per expert to one of all, in the order of the experts."""
    out, experts = {}, {}
    for name, w in tensors.items():
        if match := re.fullmatch(r"(.*\.experts)\.(\d+)(\..*)", name):
            experts.setdefault(match[1] + match[3], {})[int(match[2])] = w
        else:
            out[name] = w
    return out | {name: np.stack([of[i] for i in range(len(of))]) for name, of in experts.items()}


def add_layer_tensor(writer, layer, rest, w, config, joint):
    if rest == "mlp.gate.e_score_correction_bias":
        writer.add_tensor(f"blk.{layer}.exp_probs_b.bias", w)
    elif rest == "self_attn.kv_b_proj.weight" and not joint:
        nope = config["qk_nope_head_dim"]
        heads = w.reshape(config["num_attention_heads"], nope + config["v_head_dim"], config["kv_lora_rank"])
        writer.add_tensor(f"blk.{layer}.attn_k_b.weight", np.ascontiguousarray(heads[:, :nope].swapaxes(1, 2)))
        writer.add_tensor(f"blk.{layer}.attn_v_b.weight", np.ascontiguousarray(heads[:, nope:]))
    else:
        base, kind = rest.rsplit(".", 1)
        writer.add_tensor(f"blk.{layer}.{NAMES[base]}.{kind}", w)


def write(folder, path, joint):
    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(path, "deepseek2")
    writer.add_name(path.stem)
    add_keys(writer, config, joint)
    writer.add_file_type(LlamaFileType.ALL_F32)
    add_vocabulary(writer, config["vocab_size"])
    writer.add_vocab_size(config["vocab_size"])
    for name, w in stacked(load_file(folder / "model.safetensors")).items():
        if name in TOP:
            writer.add_tensor(TOP[name], w)
        else:
            _, _, layer, rest = name.split(".", 3)
            add_layer_tensor(writer, layer, rest, w, config, joint)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(path, path.stat().st_size)


for name in sys.argv[2:] or FILES:
    parent = Path(sys.argv[1]) / "tiny-deepseek"
    write(parent / FILES[name], parent / f"{name}.gguf", name.endswith("-joint"))
