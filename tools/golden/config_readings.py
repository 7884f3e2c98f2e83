"""Makes test/golden/config-readings/readings.json: what transformers makes of the keys of a config.json that
say how layers rotate and which of them have a window.

Each case is a family's small config with keys replaced (null removes one). The model is built with random
weights and runs one pass of 20 tokens; recorded is what reaches each layer's attention: how many keys the
last query sees, and the angles of positions 1 and 19 (cosines and sines, as they are multiplied into queries
and keys). A config that transformers refuses has the error's class.

Usage: python config_readings.py OUT   # OUT is test/golden
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from golden_io import versions, write_json

T, V = 20, 7
BASE = dict(vocab_size=V, hidden_size=24, intermediate_size=8, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
            max_position_embeddings=64)
FAMILIES = {
    "llama": BASE, "mistral": {**BASE, "sliding_window": 5}, "qwen2": {**BASE, "sliding_window": 5},
    "qwen3": {**BASE, "head_dim": 8, "sliding_window": 5}, "phi3": {**BASE, "sliding_window": 5, "pad_token_id": 0},
    "gemma2": {**BASE, "head_dim": 8, "sliding_window": 5},
    "gemma3_text": {**BASE, "head_dim": 8, "sliding_window": 5, "num_hidden_layers": 6},
    "starcoder2": {**BASE, "sliding_window": 5},
    "falcon": dict(vocab_size=V, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, max_position_embeddings=64),
    "gpt_oss": {**BASE, "head_dim": 8, "sliding_window": 5, "num_local_experts": 2, "num_experts_per_tok": 1},
    "deepseek_v2": {**BASE, "num_key_value_heads": 3, "q_lora_rank": None, "kv_lora_rank": 4, "qk_nope_head_dim": 4,
                    "qk_rope_head_dim": 8, "v_head_dim": 4, "first_k_dense_replace": 3, "n_routed_experts": 2,
                    "moe_intermediate_size": 4, "num_experts_per_tok": 1},
    "deepseek_v3": {**BASE, "num_key_value_heads": 3, "q_lora_rank": None, "kv_lora_rank": 4, "qk_nope_head_dim": 4,
                    "qk_rope_head_dim": 8, "v_head_dim": 4, "first_k_dense_replace": 3, "n_routed_experts": 8, "n_group": 1,
                    "topk_group": 1, "moe_intermediate_size": 4, "num_experts_per_tok": 1, "rope_interleave": False},
}
DEFAULT = {"rope_type": "default", "rope_theta": 1e6}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LINEAR = {"type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 4.0, 8.0]}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
NESTED = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default"}}
S, F = "sliding_attention", "full_attention"

# How it rotates: keys -> the families they are tried in.
ROPE = [
    ({}, list(FAMILIES)),
    ({"rope_theta": 500000.0}, list(FAMILIES)),
    ({"rope_parameters": DEFAULT, "rope_scaling": YARN}, ["llama", "mistral", "qwen2", "qwen3", "gemma2", "starcoder2", "falcon",
                                                         "gpt_oss", "deepseek_v2", "deepseek_v3"]),
    ({"rope_parameters": DEFAULT, "rope_scaling": LINEAR}, ["llama", "qwen2", "gemma2", "starcoder2", "falcon", "gpt_oss"]),
    ({"rope_parameters": DEFAULT, "rope_scaling": LINEAR, "rope_theta": 300.0}, ["llama", "gpt_oss"]),
    ({"rope_parameters": DEFAULT, "rope_scaling": {**LINEAR, "rope_theta": 77.0}, "rope_theta": 300.0}, ["llama"]),
    ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {}}, ["llama"]),
    ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": None}, ["llama"]),
    ({"rope_parameters": YARN, "rope_scaling": {"rope_type": "default"}}, ["llama"]),
    ({"rope_parameters": {"rope_type": "default"}, "rope_theta": 300.0}, ["llama", "falcon"]),
    ({"rope_parameters": {**DEFAULT, "factor": 3.0}, "rope_theta": 300.0}, ["llama"]),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, ["llama", "qwen2"]),
    ({"rope_scaling": YARN, "original_max_position_embeddings": 8}, ["llama", "qwen2"]),
    ({"rope_scaling": {**YARN, "attention_factor": 1.5, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False}}, ["llama"]),
    ({"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.3}}, ["llama", "deepseek_v2", "deepseek_v3"]),
    ({"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}}, ["llama", "qwen3"]),
    ({"rope_scaling": LLAMA3}, ["llama"]),
    ({"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}, "original_max_position_embeddings": 32}, ["llama"]),
    ({"rope_parameters": {**LONG, "original_max_position_embeddings": 16}}, ["llama", "phi3"]),
    ({"rope_parameters": LONG}, ["llama", "phi3"]),
    ({"rope_scaling": LONG, "original_max_position_embeddings": 16}, ["phi3", "llama"]),
    ({"rope_scaling": {**LONG, "factor": 2.0}, "original_max_position_embeddings": 32, "rope_theta": 300.0}, ["phi3"]),
    ({"rope_parameters": DEFAULT, "rope_scaling": {**LONG, "original_max_position_embeddings": 16}}, ["phi3"]),
    ({"rope_scaling": YARN}, ["phi3"]),
    ({"rope_scaling": LINEAR}, ["phi3"]),
    ({"rope_scaling": DYNAMIC}, ["llama", "mistral", "qwen2", "falcon", "deepseek_v3"]),
    ({"rope_scaling": DYNAMIC, "max_position_embeddings": 12}, ["llama", "mistral", "qwen2", "falcon", "deepseek_v3", "starcoder2"]),
    ({"rope_parameters": NESTED}, ["gemma3_text", "gemma2", "gpt_oss", "qwen2"]),
    ({"rope_parameters": NESTED, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, ["gemma3_text"]),
    ({"rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "default"}},
      "rope_scaling": YARN, "rope_theta": 300.0, "rope_local_base_freq": 50.0}, ["gemma3_text"]),
    ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}, ["gemma3_text"]),
    ({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 8.0}}}, ["gemma3_text"]),
    ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 300.0, "rope_local_base_freq": 50.0}, ["gemma3_text"]),
    ({"rope_scaling": {"type": "linear", "factor": 8.0}}, ["gemma3_text"]),
    ({"rope_scaling": DYNAMIC, "max_position_embeddings": 12}, ["gemma3_text"]),
]
# Which layers have a window.
WINDOWS = [
    ({"use_sliding_window": False}, ["mistral", "phi3", "starcoder2", "gemma2", "gemma3_text", "gpt_oss", "qwen2", "qwen3"]),
    ({"use_sliding_window": True}, ["mistral", "qwen2", "qwen3"]),
    ({"use_sliding_window": True, "max_window_layers": 1}, ["mistral", "phi3", "starcoder2", "qwen2", "qwen3", "gemma2"]),
    ({"use_sliding_window": True, "max_window_layers": 0}, ["qwen2"]),
    ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 1}, ["qwen2"]),
    ({"use_sliding_window": True, "layer_types": [S, F, S]}, ["qwen2", "qwen3"]),
    ({"layer_types": [F, F, F], "use_sliding_window": True, "max_window_layers": 0}, ["qwen2"]),
    ({"layer_types": [S, F, S]}, ["qwen2", "phi3", "starcoder2", "llama", "gemma2", "gpt_oss"]),
    # AutoConfig makes a Ministral of it, which needs a head_dim
    ({"layer_types": [S, F, S], "head_dim": 8}, ["mistral"]),
    ({"layer_types": [S, F, S], "head_dim": 8, "use_sliding_window": False}, ["mistral"]),
    ({"layer_types": [F, F, F], "head_dim": 8}, ["mistral"]),
    ({"layer_types": None, "head_dim": 8}, ["mistral", "gemma2"]),
    ({"layer_types": [F, F, F]}, ["phi3", "starcoder2", "gemma2", "gpt_oss"]),
    ({"layer_types": [S, F, S, F, F, S]}, ["gemma3_text"]),
    ({"sliding_window": None}, ["mistral", "phi3", "starcoder2", "gemma2", "gemma3_text", "gpt_oss"]),
    ({"sliding_window": 5}, ["llama", "falcon", "deepseek_v2", "deepseek_v3"]),
    ({"sliding_window_pattern": 2}, ["mistral", "phi3", "starcoder2", "gemma2", "gemma3_text", "gpt_oss", "qwen2"]),
    ({"_sliding_window_pattern": 2}, ["gemma3_text"]),
    ({"sliding_window_pattern": 3, "layer_types": [S, F, S]}, ["gemma2"]),
    ({"sliding_window_pattern": 3, "layer_types": [S, F, S, F, F, S]}, ["gemma3_text"]),
]


def reading(family, keys):
    with TemporaryDirectory() as folder:  # by file, since AutoConfig looks into it
        (Path(folder) / "config.json").write_text(json.dumps({**FAMILIES[family], **keys, "model_type": family}))
        config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    layers = []

    def see(module, args, kwargs):
        mask = kwargs.get("attention_mask")
        if mask is None:  # Falcon hands it over by place
            mask = next(arg for arg in args if torch.is_tensor(arg) and arg.dim() == 4)
        rotation = kwargs.get("position_embeddings")
        if torch.is_tensor(rotation):  # DeepSeek V2 has complex numbers
            cos, sin = rotation.real[0], rotation.imag[0]
        else:
            # gpt-oss has each angle once
            cos, sin = (part[0] if family == "gpt_oss" else part[0, :, : part.shape[-1] // 2] for part in rotation)
        seen = int((mask[0, 0, -1] == 0).sum())
        row = {name: [round(float(x), 7) for x in part[at]] for at in (1, T - 1) for name, part in ((f"cos{at}", cos), (f"sin{at}", sin))}
        layers.append({"window": None if seen == T else seen, **row})

    for name, module in model.named_modules():
        if name.endswith(("self_attn", "self_attention")):
            module.register_forward_pre_hook(see, with_kwargs=True)
    with torch.no_grad():
        model(torch.arange(T)[None] % V, use_cache=False)
    return layers


def compact(layers):
    """The distinct rotations as a list, and per layer its window and the index of its rotation."""
    rotations, rows = [], []
    for layer in layers:
        rotation = {key: value for key, value in layer.items() if key != "window"}
        if rotation not in rotations:
            rotations.append(rotation)
        rows.append([layer["window"], rotations.index(rotation)])
    return {"layers": rows, "rotations": rotations}


def main(out):
    torch.manual_seed(3)
    cases = []
    for keys, families in ROPE + WINDOWS:
        for family in families:
            try:
                result = compact(reading(family, keys))
            except Exception as error:  # any error counts as a refusal
                result = {"error": type(error).__name__}
                print(family, keys, error)
            cases.append({"family": family, "keys": keys, **result})
    folder = out / "config-readings"
    folder.mkdir(exist_ok=True)
    write_json(folder / "readings.json", {
        "script": "tools/golden/config_readings.py", "versions": versions("torch", "transformers"), "T": T, "configs": FAMILIES,
        "cases": cases})
    print(len(cases), "cases")


transformers.utils.logging.set_verbosity_error()
main(Path(sys.argv[1]))
