"""Makes test/golden/tiny-deepseek/<option>/: tiny random checkpoints of DeepSeek V2 and V3, and their logits.

As tiny_families.py: small awkward dimensions, weights drawn wide, logits and greedy tokens by transformers
(float32, eager). YaRN's original length lies inside the sequences. Sizes are even where transformers' complex
rotation of V2 wants it.

Usage: python tiny_deepseek.py OUT        # OUT is test/golden
"""

import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM

from golden_io import versions, write_arrays, write_json
from tiny_models import clearest, logits_of

V, B, T, PROMPT, NEW = 61, 2, 29, 7, 24
RAGGED = (5, 23, 11)
BASE = dict(
    vocab_size=V, hidden_size=35, intermediate_size=43, max_position_embeddings=64, num_attention_heads=5, num_key_value_heads=5,
    kv_lora_rank=22, q_lora_rank=13, qk_nope_head_dim=14, qk_rope_head_dim=6, v_head_dim=11, rms_norm_eps=1e-6, bos_token_id=1,
    eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
)


def yarn(mscale, all_dim, **more):
    return {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 4,
            "beta_slow": 1, "mscale": mscale, "mscale_all_dim": all_dim, **more}


PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
V2, V3 = (DeepseekV2Config, DeepseekV2ForCausalLM), (DeepseekV3Config, DeepseekV3ForCausalLM)
V3_EXPERTS = dict(n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3, moe_intermediate_size=17)

# option -> (what it is for, classes, config fields)
MODELS = {
    "v2-dense": (
        "no mixture; biases, another epsilon, plain RoPE, tied", V2,
        dict(num_hidden_layers=2, first_k_dense_replace=2, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5, rope_parameters=PLAIN,
             tie_word_embeddings=True)),
    "v2-lite": (
        "queries without a latent, YaRN, greedy experts behind one dense layer", V2,
        dict(num_hidden_layers=3, q_lora_rank=None, first_k_dense_replace=1, rope_parameters=yarn(0.707, 0.707), n_routed_experts=7,
             n_shared_experts=2, num_experts_per_tok=3, moe_intermediate_size=17, topk_method="greedy", routed_scaling_factor=1.0)),
    "v2": (
        "queries from a latent, YaRN, experts of the best groups, scaled", V2,
        dict(num_hidden_layers=3, first_k_dense_replace=1, rope_parameters=yarn(0.707, 0.707), n_routed_experts=12, n_shared_experts=2,
             num_experts_per_tok=3, moe_intermediate_size=17, topk_method="group_limited_greedy", n_group=4, topk_group=2,
             routed_scaling_factor=16.0)),
    "v3-dense": (
        "no mixture; biases, halves rotated, queries without a latent, cosines scaled by YaRN, whole ramp", V3,
        dict(num_hidden_layers=2, first_k_dense_replace=2, q_lora_rank=None, attention_bias=True, rope_interleave=False, rms_norm_eps=1e-5,
             rope_parameters=yarn(0.5, 1.3, truncate=False))),
    "v3": (
        "queries from a latent, YaRN, sigmoid experts chosen with a bias, normalised and scaled", V3,
        dict(num_hidden_layers=3, first_k_dense_replace=1, rope_parameters=yarn(1.0, 1.0), **V3_EXPERTS, routed_scaling_factor=2.5,
             norm_topk_prob=True)),
}


def random_model(classes, fields, seed):
    Config, Model = classes
    model = Model(Config(**{**BASE, **fields}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in [*model.named_parameters(), *model.named_buffers()]:
            if "inv_freq" in name:
                continue
            noise = torch.randn(p.shape, generator=generator)
            scale = 0.4 if "embed" in name else 0.3 if "bias" in name else 0.25
            p.copy_(1 + 0.3 * noise if "norm" in name else scale * noise)
    return model


def main(out):
    torch.set_num_threads(1)
    for seed, (option, (purpose, classes, fields)) in enumerate(MODELS.items(), start=200):
        folder = out / "tiny-deepseek" / option
        shutil.rmtree(folder, ignore_errors=True)
        random_model(classes, fields, seed).save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
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
        (folder / "golden.safetensors").chmod(0o644)
        noise = (model.double()(tokens, use_cache=False).logits - arrays["logits"]).abs().max()
        with safe_open(folder / "model.safetensors", "pt") as file:
            names = sorted({name.split(".", 3)[-1] for name in file.keys() if ".layers.2." in name or ".layers.1." in name})
        write_json(folder / "golden.json", {
            "script": "tools/golden/tiny_deepseek.py", "versions": versions("torch", "transformers", "safetensors"),
            "purpose": purpose, "seed": seed, "attention": "eager, float32", "B": B, "T": T, "V": V, "raggedLengths": list(RAGGED),
            "minMargin": {"greedy": min(margins)}, "maxAbsLogit": float(arrays["logits"].abs().max()), "float32Noise": float(noise),
        })
        print(option, "max |logit|", round(float(arrays["logits"].abs().max()), 2), "margin", min(margins), "noise", float(noise))
        print("  ", names[:12])


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
main(Path(sys.argv[1]))
