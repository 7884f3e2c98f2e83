"""Makes test/golden/convert/<family>/: tiny random multi-head models of every family, and the logits of their
poolings.

Key/value heads are pooled here in NumPy, the way the GQA paper says (mean over neighbours, or the first of
each group), and the pooled tensors are run by transformers (float32, eager) in the class that holds them.
`golden.safetensors` has the tokens and `<method>-<K>/logits`; the pooled weights are not stored: gqa must
compute the same ones.

Usage: python convert.py OUT [FAMILY …]   # OUT is test/golden/convert
       python convert.py --check DIR...   # loads converted directories, complains about missing or unexpected tensors,
                                     # and compares the logits of directories named <family>-<K>
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoConfig, AutoModelForCausalLM, FalconConfig, FalconForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3Config, Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, GPTBigCodeConfig, GPTBigCodeForCausalLM, GptOssConfig,
    GptOssForCausalLM, LlamaConfig,
    LlamaForCausalLM, MistralConfig, MistralForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM, Starcoder2Config, Starcoder2ForCausalLM)

from golden_io import versions, write_arrays, write_json


class AnyClass:
    """The class of a config."""

    @staticmethod
    def _from_config(config, **options):
        return AutoModelForCausalLM.from_config(config, **options)


V, T, N, D, LAYERS = 37, 19, 6, 24, 2
BASE = dict(
    vocab_size=V, hidden_size=D, intermediate_size=20, num_hidden_layers=LAYERS, max_position_embeddings=64,
    num_attention_heads=N, num_key_value_heads=N, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
GPT2 = dict(vocab_size=V, n_embd=D, n_layer=LAYERS, n_head=N, n_positions=32, bos_token_id=1, eos_token_id=2)
GEMMA3 = dict(
    **{**BASE, "tie_word_embeddings": True, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    head_dim=8, sliding_window=7, query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"])
FALCON = dict(vocab_size=V, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=N, max_position_embeddings=64,
              ffn_hidden_size=20, bos_token_id=1, eos_token_id=2)
KINDS_ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
MODELS = {
    "llama": (LlamaConfig, LlamaForCausalLM, dict(**BASE, head_dim=8, attention_bias=True)),
    "mistral": (MistralConfig, MistralForCausalLM, dict(**BASE, head_dim=8, sliding_window=7)),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, BASE),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, dict(**BASE, head_dim=8)),
    "phi3": (Phi3Config, Phi3ForCausalLM, BASE),
    "gpt2": (GPT2Config, GPT2LMHeadModel, dict(**GPT2, scale_attn_by_inverse_layer_idx=True)),
    # Sinks belong to query heads and are not pooled.
    "gpt_oss": (GptOssConfig, GptOssForCausalLM, dict(
        **{**BASE, "intermediate_size": 12}, head_dim=8, sliding_window=7, num_local_experts=3, num_experts_per_tok=2)),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, dict(
        **BASE, head_dim=8, sliding_window=7, query_pre_attn_scalar=11, attn_logit_softcapping=3.0, final_logit_softcapping=9.0)),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, dict(**GEMMA3)),
    "gemma3_images": (Gemma3Config, Gemma3ForConditionalGeneration, dict(text_config=GEMMA3, vision_config=dict(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4),
        mm_tokens_per_image=4, image_token_index=36, boi_token_index=34, eoi_token_index=35, tie_word_embeddings=True)),
    "starcoder2": (Starcoder2Config, Starcoder2ForCausalLM, dict(**BASE, sliding_window=7)),
    # the new architecture: fused by group, two norms
    "falcon_40b": (FalconConfig, FalconForCausalLM, dict(**FALCON, num_kv_heads=N, new_decoder_architecture=True)),
    # the old one: fused by head, one norm; with fewer heads it is the new one with one norm
    "falcon_rw": (FalconConfig, FalconForCausalLM, dict(**FALCON, multi_query=False, bias=True)),
    "gpt_bigcode": (GPTBigCodeConfig, GPTBigCodeForCausalLM, dict(**GPT2, multi_query=False)),
    **{family: (partial(AutoConfig.for_model, family), AnyClass, {**{key: value for key, value in BASE.items() if key not in dropped}, **fields})
       for family, dropped, fields in (
        ("olmo2", (), dict(attention_bias=True)),
        ("olmo", ("rms_norm_eps",), dict(clip_qkv=0.6)),
        ("mixtral", (), dict(head_dim=8, num_local_experts=3, num_experts_per_tok=2)),
        ("granite", (), dict(attention_multiplier=0.5, residual_multiplier=0.5, logits_scaling=0.5)),
        ("phi", ("rms_norm_eps", "rope_parameters"), dict(
            rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
        ("stablelm", ("rms_norm_eps", "rope_parameters"), dict(use_qkv_bias=True, rope_parameters={
            "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
        ("cohere2", ("rms_norm_eps",), dict(sliding_window=7, layer_types=["sliding_attention", "full_attention"])),
        ("nanochat", (), {}),
        ("smollm3", (), dict(no_rope_layers=[1, 0])),
        ("qwen3_moe", (), dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=8, head_dim=4)),
        ("olmo3", ("rope_parameters",), dict(sliding_window=7, layer_types=["sliding_attention", "full_attention"], rope_parameters=KINDS_ROPE)),
        ("gemma", (), dict(head_dim=4)),
        ("glm4", ("rope_parameters",), dict(head_dim=4, attention_bias=True, rope_parameters={
            "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
        ("ernie4_5", (), dict(head_dim=4, use_bias=True)),
        ("exaone4", (), dict(sliding_window=7, layer_types=["sliding_attention", "full_attention"])),
        ("ministral3", ("rope_parameters",), dict(head_dim=4, rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 4.0, "beta_slow": 1.0,
            "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5})),
        ("hunyuan_v1_dense", (), dict(head_dim=4)),
        ("seed_oss", (), dict(head_dim=4)),
        ("arcee", (), {}),
        ("apertus", (), {}),
        ("llama4_text", ("intermediate_size",), dict(
            head_dim=4, intermediate_size=8, intermediate_size_mlp=16, num_local_experts=3, num_experts_per_tok=1, moe_layers=[1],
            attention_chunk_size=7, no_rope_layers=[1, 0], floor_scale=8, attn_scale=0.5)))},
}
FUSED_BY_GROUP = (".query_key_value.", ".c_attn.")
CASES = [(method, k) for method in ("mean", "first") for k in (3, 2, 1)]


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            is_norm = name.endswith("weight") and ("norm" in name or "ln_" in name)
            one = 0 if "Gemma" in type(model).__name__ else 1  # Gemma's norms multiply by 1 + w
            p.copy_(one + 0.3 * noise if is_norm else (0.4 if "embed" in name or "wte" in name or "wpe" in name else 0.25) * noise)
    return model.eval()


def pool(heads, k, method):
    """heads: [K, H, ...] -> [k, H, ...]"""
    grouped = heads.reshape(k, heads.shape[0] // k, *heads.shape[1:])
    return grouped.mean(1) if method == "mean" else grouped[:, 0]


def pool_rows(w, k, method):
    """w: [N * H, ...] -> [k * H, ...]"""
    pooled = pool(w.reshape(N, w.shape[0] // N, *w.shape[1:]).astype(np.float64), k, method)
    return pooled.reshape(-1, *w.shape[1:]).astype(np.float32)


def pooled_model(family, config_class, model_class, fields, state, k, method):
    state = {name: value.numpy().copy() for name, value in state.items()}
    if family == "gpt2":
        assert k == 1
        config = GPTBigCodeConfig(
            **{**GPT2, "activation_function": "gelu_new"}, multi_query=True)
        model = GPTBigCodeForCausalLM._from_config(config, attn_implementation="eager")
        for layer in range(LAYERS):
            for kind in ("weight", "bias"):
                name = f"transformer.h.{layer}.attn.c_attn.{kind}"
                w = state[name].T if kind == "weight" else state[name]  # [3D, D], rows q, k, v
                q, key, value = np.split(w, 3)
                q = q / (layer + 1)  # scale_attn_by_inverse_layer_idx, which this class does not have
                state[name] = np.concatenate([q, pool_rows(key, 1, method), pool_rows(value, 1, method)])
            for name in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
                key = f"transformer.h.{layer}.{name}.weight"
                state[key] = state[key].T.copy()
    else:
        heads = {"num_key_value_heads": k}
        if family.startswith("falcon"):
            heads = {"multi_query": True} if k == 1 and family == "falcon_rw" else {
                "num_kv_heads": k, "new_decoder_architecture": True}
            if family == "falcon_rw" and k > 1:
                heads["num_ln_in_parallel_attn"] = 1
        if family == "gpt_bigcode":
            heads = {"multi_query": True}
        if "text_config" in fields:
            heads = {"text_config": {**fields["text_config"], **heads}}
        model = model_class._from_config(config_class(**{**fields, **heads}), attn_implementation="eager")
        for name in list(state):
            if any(part in name for part in FUSED_BY_GROUP):
                w = state[name].reshape(N, 3, D // N, *state[name].shape[1:])  # before: one group per head
                q, key, value = (w[:, i].reshape(-1, *w.shape[3:]) for i in range(3))
                key, value = (pool_rows(part, k, method).reshape(k, 1, D // N, *w.shape[3:]) for part in (key, value))
                grouped = np.concatenate([q.reshape(k, N // k, D // N, *w.shape[3:]), key, value], axis=1)
                state[name] = grouped.reshape(-1, *w.shape[3:])
            if (".k_proj." in name or ".v_proj." in name) and "vision" not in name:
                state[name] = pool_rows(state[name], k, method)
            if "k_norm." in name and len(state[name]) == D:  # over all heads
                state[name] = pool_rows(state[name], k, method)
            if ".qkv_proj." in name:
                q, key, value = np.split(state[name], 3)
                state[name] = np.concatenate([q, pool_rows(key, k, method), pool_rows(value, k, method)])
    missing, unexpected = model.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in state.items()}, strict=True)
    assert not missing and not unexpected
    return model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(tokens, use_cache=False).logits


def main(out, chosen):
    torch.set_num_threads(1)
    for index, (family, (config_class, model_class, fields)) in enumerate(MODELS.items()):
        if chosen and family not in chosen:
            continue
        model = randomize(model_class._from_config(config_class(**fields), attn_implementation="eager"), 700 + index)
        folder = out / family
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        tokens = torch.randint(0, V, (1, T), generator=torch.Generator().manual_seed(800 + index))
        arrays = {"tokens": tokens, "logits": logits_of(model, tokens)}
        for method, k in CASES:
            if family in ("gpt2", "gpt_bigcode") and k != 1:
                continue
            pooled = pooled_model(family, config_class, model_class, fields, model.state_dict(), k, method)
            arrays[f"{method}-{k}/logits"] = logits_of(pooled, tokens)
        write_arrays(folder / "golden.safetensors", {name: value.numpy() for name, value in arrays.items()})
        write_json(folder / "golden.json", {
            "script": "tools/golden/convert.py", "versions": versions("torch", "transformers", "safetensors"),
            "seed": 700 + index, "attention": "eager, float32", "N": N, "T": T, "V": V})
        print(family, {name: float(value.abs().max()) for name, value in arrays.items() if name != "tokens"})


def check(folders):
    bad = 0
    for folder in folders:
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        problems = {key: sorted(map(str, value)) for key, value in info.items() if value}
        bad += bool(problems)
        family, _, k = Path(folder).name.rpartition("-")
        golden = Path(__file__).parent / f"../../test/golden/convert/{family}/golden.safetensors"
        wanted = load_file(golden) if golden.exists() else {}
        tokens = wanted.get("tokens", torch.arange(8)[None])
        logits = logits_of(model.eval(), tokens)
        key = "logits" if k == str(N) else f"mean-{k}/logits"
        error = float((logits - wanted[key]).abs().max()) if key in wanted else None
        print(json.dumps({"folder": str(folder), "class": type(model).__name__, "kv_heads": getattr(
            model.config, "num_key_value_heads", None), "problems": problems, "max_error": error, "finite": bool(logits.isfinite().all())}))
    return bad


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
if sys.argv[1] == "--check":
    sys.exit(check(sys.argv[2:]))
main(Path(sys.argv[1]), sys.argv[2:])
