"""Makes test/golden/tiny-gpt_oss/<option>/ and <option>.gguf: tiny random gpt-oss checkpoints, and their
logits.

As tiny_families.py: small awkward dimensions, weights drawn wide, logits and greedy tokens by transformers
(float32, eager). The window of 9 and YaRN's original length lie inside the sequences; the experts' clamp is
reached. The GGUF form has float32 in llama.cpp's layout: experts as [E, Out, In], gate and up apart.

Usage: python tiny_gpt_oss.py OUT        # OUT is test/golden
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGUFWriter, LlamaFileType, RopeScalingType
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, GptOssConfig, GptOssForCausalLM

from golden_io import versions, write_arrays, write_json
from tiny_models import add_vocabulary, clearest, logits_of

V, B, T, PROMPT, NEW, WINDOW = 61, 2, 29, 7, 24, 9
RAGGED = (5, 23, 11)
YARN = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 16}
BASE = dict(
    vocab_size=V, hidden_size=40, intermediate_size=24, num_hidden_layers=3, max_position_embeddings=64, num_attention_heads=6, head_dim=8,
    rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False, sliding_window=WINDOW, rope_parameters=YARN)

# option -> (what it is for, dtype of the file, config fields)
MODELS = {
    "plain": ("5 experts of which 2, K = 2, YaRN, layers 0 and 2 with a window", torch.float32,
              dict(num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2)),
    "options": ("7 experts of which 4, K = 3, layer types by name, a nearer clamp, no biases in attention, whole ramp, bf16", torch.bfloat16,
                dict(num_key_value_heads=3, num_local_experts=7, num_experts_per_tok=4, layer_types=["full_attention", "sliding_attention"],
                     num_hidden_layers=2, swiglu_limit=0.7, swiglu_alpha=1.3, attention_bias=False,
                     rope_parameters={**YARN, "truncate": True, "beta_fast": 4.0})),
}


def random_model(fields, seed, dtype):
    model = GptOssForCausalLM(GptOssConfig(**{**BASE, **fields}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            scale = 0.4 if "embed" in name else 0.3 if "bias" in name else 1.0 if "sinks" in name else 0.25
            p.copy_(1 + 0.3 * noise if "norm" in name else scale * noise)
    return model.to(dtype)


NAMES = {
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias", "self_attn.o_proj.bias": "attn_output.bias", "self_attn.sinks": "attn_sinks.weight",
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
    "mlp.router.weight": "ffn_gate_inp.weight", "mlp.router.bias": "ffn_gate_inp.bias",
    "mlp.experts.down_proj": "ffn_down_exps.weight", "mlp.experts.down_proj_bias": "ffn_down_exps.bias",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def write_gguf(folder, path):
    """As llama.cpp's converter (GptOssModel) does it."""
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    rope = config["rope_parameters"]
    writer = GGUFWriter(path, "gpt-oss")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_vocab_size(V)
    writer.add_file_type(LlamaFileType.ALL_F32)
    add_vocabulary(writer, V)
    for name, w in tensors.items():
        if name in TOP:
            writer.add_tensor(TOP[name], w)
            continue
        _, _, layer, rest = name.split(".", 3)
        if rest == "mlp.experts.gate_up_proj":
            for part, start in (("gate", 0), ("up", 1)):
                writer.add_tensor(f"blk.{layer}.ffn_{part}_exps.weight", np.ascontiguousarray(w[:, :, start::2].swapaxes(1, 2)))
        elif rest == "mlp.experts.gate_up_proj_bias":
            for part, start in (("gate", 0), ("up", 1)):
                writer.add_tensor(f"blk.{layer}.ffn_{part}_exps.bias", np.ascontiguousarray(w[:, start::2]))
        else:
            w = w.swapaxes(1, 2) if rest == "mlp.experts.down_proj" else w
            writer.add_tensor(f"blk.{layer}.{NAMES[rest]}", np.ascontiguousarray(w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.chmod(0o644)


def main(out):
    torch.set_num_threads(1)
    for seed, (option, (purpose, dtype, fields)) in enumerate(MODELS.items(), start=300):
        folder = out / "tiny-gpt_oss" / option
        shutil.rmtree(folder, ignore_errors=True)
        random_model(fields, seed, dtype).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
        generator = torch.Generator().manual_seed(seed + 100)
        tokens = torch.randint(0, V, (B, T), generator=generator)
        arrays = {"tokens": tokens, "logits": logits_of(model, tokens)}
        for row, length in enumerate(RAGGED):
            row_tokens = torch.randint(0, V, (length,), generator=generator)
            arrays |= {f"ragged/{row}/tokens": row_tokens, f"ragged/{row}/logits": logits_of(model, row_tokens[None])[0]}
        prompt, answer, margins = clearest(model, 10 * seed + PROMPT, PROMPT, NEW)
        for what, values in {"prompt": prompt, "tokens": answer, "margins": margins}.items():
            arrays[f"greedy/{what}"] = torch.tensor(values)
        write_arrays(folder / "golden.safetensors", {key: value.numpy() for key, value in arrays.items()})
        noise = (model.double()(tokens, use_cache=False).logits - arrays["logits"]).abs().max()
        write_json(folder / "golden.json", {
            "script": "tools/golden/tiny_gpt_oss.py", "versions": versions("torch", "transformers", "safetensors", "gguf"),
            "purpose": purpose, "seed": seed, "attention": "eager, float32", "B": B, "T": T, "V": V, "raggedLengths": list(RAGGED),
            "minMargin": {"greedy": min(margins)}, "maxAbsLogit": float(arrays["logits"].abs().max()), "float32Noise": float(noise),
        })
        for file in folder.iterdir():
            file.chmod(0o644)
        if option == "plain":
            write_gguf(folder, folder.parent / f"{option}.gguf")
        print(option, "max |logit|", round(float(arrays["logits"].abs().max()), 2), "margin", min(margins), "noise", float(noise))


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
main(Path(sys.argv[1]))
