"""Makes test/golden/tiny-<family>/<option>/: tiny random checkpoints of the families besides Llama, and their
logits.

As tiny_llama.py: small awkward dimensions, weights drawn wide, logits and greedy tokens by transformers
(float32, eager). Windows are shorter than every sequence; LongRoPE's original length lies inside the
sequences, so that some rows are short and some long, and one greedy answer crosses it.

Usage: python tiny_families.py OUT [FAMILY/OPTION …]   # OUT is test/golden
"""

import json
import math
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig, AutoModelForCausalLM, FalconConfig, FalconForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3Config, Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, GPTBigCodeConfig, GPTBigCodeForCausalLM,
    Llama4Config, Llama4ForConditionalGeneration, MistralConfig, MistralForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
    Starcoder2Config, Starcoder2ForCausalLM)

from golden_io import versions, write_arrays, write_json
from tiny_models import clearest, logits_of

V, B, T, PROMPT, NEW, WINDOW, ORIGINAL = 61, 2, 29, 7, 24, 9, 16
RAGGED = (5, 23, 11)
BASE = dict(
    vocab_size=V, hidden_size=32, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=64, num_attention_heads=4,
    rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
GPT2 = dict(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=48, bos_token_id=1, eos_token_id=2)
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.25, 1.5, 1.75, 2.0], "long_factor": [1.0, 1.5, 2.5, 5.0, 9.0, 14.0],
}
CLASSES = {
    "mistral": (MistralConfig, MistralForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM), "phi3": (Phi3Config, Phi3ForCausalLM),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM), "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
    "starcoder2": (Starcoder2Config, Starcoder2ForCausalLM), "falcon": (FalconConfig, FalconForCausalLM),
    "gpt2": (GPT2Config, GPT2LMHeadModel), "gpt_bigcode": (GPTBigCodeConfig, GPTBigCodeForCausalLM)}
GEMMA3_ROPE = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
               "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
SMALL = dict(hidden_size=20, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1, head_dim=12)
FALCON = dict(vocab_size=V, num_hidden_layers=2, max_position_embeddings=64, ffn_hidden_size=56, bos_token_id=1, eos_token_id=2)
BIGCODE = {**GPT2, "n_inner": 40}
LAYER_NORM = dict(rms_norm_eps=None)  # the families' own key has its default
EXPERTS = dict(intermediate_size=24, num_local_experts=5, num_experts_per_tok=2)
OLMO3_ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 4.0, "beta_slow": 1.0, "original_max_position_embeddings": 16}
LLAMA4 = dict(head_dim=12, intermediate_size=20, intermediate_size_mlp=36, num_local_experts=5, num_experts_per_tok=1)
GEMMA4 = dict(
    head_dim=8, global_head_dim=16, sliding_window=WINDOW, tie_word_embeddings=True, rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6}})
HALF_ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
OPT = dict(vocab_size=V, hidden_size=32, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=48,
           word_embed_proj_dim=32, bos_token_id=1, eos_token_id=2, pad_token_id=0)

# family/option -> (what it is for, config fields)
MODELS = {
    "mistral/window": ("a window of 9 in every layer, head_dim 12", dict(num_key_value_heads=2, head_dim=12, sliding_window=WINDOW)),
    "mistral/plain": ("no window, N = 6, K = 3", dict(num_attention_heads=6, num_key_value_heads=3, head_dim=8, sliding_window=None)),
    "qwen2/plain": (
        "biases on q, k, v; K = 1, tied, theta 1e6",
        dict(num_key_value_heads=1, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6})),
    "qwen2/window": (
        "layer 0 full, layers 1 and 2 with a window",
        dict(num_key_value_heads=2, num_hidden_layers=3, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)),
    "qwen3/plain": ("q and k norms, head_dim 12, tied", dict(num_key_value_heads=2, head_dim=12, tie_word_embeddings=True)),
    "qwen3/window": (
        "q and k norms with biases, K = N, layer 1 with a window",
        dict(num_key_value_heads=4, head_dim=8, attention_bias=True, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)),
    "phi3/plain": ("fused projections, K = 2", dict(num_key_value_heads=2)),
    "phi3/window": ("fused projections, K = N, a window", dict(num_key_value_heads=4, sliding_window=WINDOW)),
    "phi3/longrope": (
        "LongRoPE on three quarters of each head, original length 16 of 64",
        dict(num_attention_heads=2, num_key_value_heads=1, original_max_position_embeddings=ORIGINAL, rope_parameters=LONGROPE)),
    "gpt2/prefix": ("as transformers saves it, with the causal-mask buffers of older files", GPT2),
    "gpt2/bare": (
        "no `transformer.` prefix, n_inner, erf GELU, scores divided by the layer's number only",
        dict(**GPT2, n_inner=40, activation_function="gelu", scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True)),
    "phi3/partial": (
        "three quarters of each head rotate, K = 1, tied, as Phi-4-mini",
        dict(num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75})),
    "gemma2/plain": (
        "every second layer with a window, caps on scores and logits, head_dim 12",
        dict(num_key_value_heads=2, head_dim=12, num_hidden_layers=3, sliding_window=WINDOW, query_pre_attn_scalar=12,
             attn_logit_softcapping=3.0, final_logit_softcapping=3.0, tie_word_embeddings=True)),
    "gemma2/scale": (
        "a query scale apart from the head dim, as 27B, no caps, K = N",
        dict(**{**SMALL, "num_key_value_heads": 2}, num_hidden_layers=3, sliding_window=WINDOW, query_pre_attn_scalar=29,
             attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=True)),
    "gemma3/plain": (
        "five layers with a window to one without, two thetas, the larger stretched eightfold, K = 1",
        dict(**SMALL, num_hidden_layers=6, sliding_window=WINDOW, query_pre_attn_scalar=12, rope_parameters=GEMMA3_ROPE,
             tie_word_embeddings=True)),
    "gemma3/options": (
        "layer types by name, biases, a query scale apart from the head dim, a cap on logits, a head of its own",
        dict(num_key_value_heads=2, head_dim=8, layer_types=["full_attention", "sliding_attention"], sliding_window=WINDOW,
             query_pre_attn_scalar=29, rope_parameters=GEMMA3_ROPE, attention_bias=True, final_logit_softcapping=3.0)),
    "gemma3/images": (
        "the language model of a file that holds a vision tower",
        dict(**SMALL, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], sliding_window=WINDOW,
             query_pre_attn_scalar=12, rope_parameters=GEMMA3_ROPE, tie_word_embeddings=True)),
    "starcoder2/plain": (
        "layer norms, biases everywhere, N = 6, K = 3", dict(num_attention_heads=6, num_key_value_heads=3, hidden_size=48)),
    "starcoder2/window": (
        "a window of 9 in every layer, no biases, tied",
        dict(num_key_value_heads=2, sliding_window=WINDOW, use_bias=False, tie_word_embeddings=True)),
    "falcon/7b": ("K = 1 of N = 5, attention and MLP below one norm, tied", dict(**FALCON, hidden_size=40, num_attention_heads=5)),
    "falcon/40b": (
        "the new architecture: K = 2 of N = 6, projections fused by group, two norms",
        dict(**FALCON, hidden_size=48, num_attention_heads=6, num_kv_heads=2, new_decoder_architecture=True)),
    "falcon/11b": (
        "the new architecture with one norm, K = 2 of N = 4, its own theta",
        dict(**FALCON, hidden_size=32, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True,
             num_ln_in_parallel_attn=1, rope_parameters={"rope_type": "default", "rope_theta": 500042.0})),
    "falcon/sequential": (
        "K = N, projections fused by head, attention before the MLP, biases, a head of its own",
        dict(**FALCON, hidden_size=32, num_attention_heads=4, multi_query=False, parallel_attn=False, bias=True,
             tie_word_embeddings=False)),
    "gpt_bigcode/one": ("K = 1, matrices by output", dict(**BIGCODE, multi_query=True)),
    "gpt_bigcode/many": ("K = N, projections fused by head", dict(**BIGCODE, multi_query=False)),
    "smollm3/plain": ("layer 3 without rotation, tied", dict(num_hidden_layers=4, num_key_value_heads=2, tie_word_embeddings=True)),
    "smollm3/options": (
        "layers without rotation listed, which slide; biases, head_dim 12",
        dict(num_hidden_layers=3, num_key_value_heads=1, head_dim=12, no_rope_layers=[1, 0, 0], use_sliding_window=True,
             sliding_window=WINDOW, attention_bias=True, mlp_bias=True)),
    "mixtral/plain": ("5 experts of which 2, N = 6, K = 2", dict(**EXPERTS, hidden_size=48, num_attention_heads=6, num_key_value_heads=2)),
    "mixtral/window": (
        "4 experts of which 3, a window of 9 in every layer, head_dim 12",
        dict(intermediate_size=24, num_key_value_heads=4, head_dim=12, sliding_window=WINDOW, num_local_experts=4, num_experts_per_tok=3)),
    "qwen3_moe/plain": (
        "5 experts of which 2, weights normalised, head_dim 12",
        dict(num_key_value_heads=2, head_dim=12, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True)),
    "qwen3_moe/options": (
        "layers 0 and 2 dense, weights not normalised, biases, K = N, tied",
        dict(num_hidden_layers=4, num_key_value_heads=4, head_dim=8, attention_bias=True, num_experts=4, num_experts_per_tok=3,
             moe_intermediate_size=20, decoder_sparse_step=2, tie_word_embeddings=True)),
    "olmo2/plain": ("norms after attention and MLP, q and k norms over all heads, K = N", dict(num_key_value_heads=4)),
    "olmo2/grouped": (
        "K = 2 of N = 6, biases, its own theta",
        dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=2, attention_bias=True,
             rope_parameters={"rope_type": "default", "rope_theta": 500000.0})),
    "olmo/plain": ("norms without weights, K = N", dict(**LAYER_NORM, num_key_value_heads=4)),
    "olmo/clip": ("q, k and v clamped, K = 2, tied", dict(**LAYER_NORM, num_key_value_heads=2, clip_qkv=0.6, tie_word_embeddings=True)),
    "olmo3/plain": (
        "three layers of four with a window, K = N",
        dict(num_hidden_layers=4, num_key_value_heads=4, sliding_window=WINDOW, rope_parameters=OLMO3_ROPE)),
    "olmo3/yarn": (
        "YaRN in full layers only, layer types by name, K = 2",
        dict(num_key_value_heads=2, sliding_window=WINDOW, layer_types=["full_attention", "sliding_attention"],
             rope_parameters={**OLMO3_ROPE, "full_attention": YARN})),
    "granite/plain": (
        "multipliers of embeddings, residuals, scores and logits, tied",
        dict(num_key_value_heads=2, tie_word_embeddings=True, embedding_multiplier=1.5, residual_multiplier=0.8,
             attention_multiplier=0.125, logits_scaling=0.5)),
    "granite/options": (
        "biases, K = 1, a head of its own",
        dict(num_key_value_heads=1, attention_bias=True, mlp_bias=True, embedding_multiplier=2.0, residual_multiplier=0.7,
             attention_multiplier=0.5, logits_scaling=0.25)),
    "gpt_neox/plain": (
        "attention and MLP in parallel below two norms, a quarter of each head rotates, projections fused by head",
        dict(**LAYER_NORM, hidden_size=48, num_attention_heads=3,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25})),
    "gpt_neox/sequential": (
        "attention before the MLP, no biases in attention, whole heads rotate, tanh GELU, tied",
        dict(**LAYER_NORM, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new", tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0})),
    "opt/plain": ("learned positions from row 2 on, ReLU", dict(**OPT)),
    "opt/options": (
        "no biases, norms without weights, GELU, a head of its own",
        dict(**OPT, enable_bias=False, layer_norm_elementwise_affine=False, activation_function="gelu", tie_word_embeddings=False)),
    "phi/plain": (
        "attention and MLP below one norm, half of each head rotates, a bias on the head, K = N",
        dict(**LAYER_NORM, num_key_value_heads=4, intermediate_size=128, rope_parameters=HALF_ROPE)),
    "phi/grouped": (
        "K = 2, a quarter of each head rotates",
        dict(**LAYER_NORM, hidden_size=64, num_key_value_heads=2,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25})),
    "stablelm/plain": (
        "layer norms, a gated MLP, a quarter of each head rotates, biases on q, k and v, K = N",
        dict(**LAYER_NORM, hidden_size=64, num_key_value_heads=4, use_qkv_bias=True,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25})),
    "stablelm/parallel": (
        "attention and MLP below one norm, half of each head rotates, K = 2",
        dict(**LAYER_NORM, num_key_value_heads=2, use_parallel_residual=True, rope_parameters=HALF_ROPE)),
    "gemma/plain": ("K = 1, head_dim 12, tied", dict(num_key_value_heads=1, head_dim=12, tie_word_embeddings=True)),
    "gemma/many": ("K = N, biases, a head of its own", dict(num_key_value_heads=4, head_dim=8, attention_bias=True)),
    "glm4/plain": (
        "four norms per layer, the first half of each head rotates in neighbouring pairs, biases on q, k and v",
        dict(num_key_value_heads=2, head_dim=12, attention_bias=True,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
    "glm4/options": (
        "no biases, K = N, whole heads rotate, tied",
        dict(num_key_value_heads=4, head_dim=8, attention_bias=False, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 1e5, "partial_rotary_factor": 1.0})),
    "cohere2/plain": (
        "attention and MLP below one norm without bias, three layers of four rotate and slide, scaled logits, tied",
        dict(**LAYER_NORM, num_hidden_layers=4, num_key_value_heads=2, sliding_window=WINDOW, logit_scale=0.3, tie_word_embeddings=True)),
    "cohere2/options": (
        "biases, K = N, layer types by name, a head of its own",
        dict(**LAYER_NORM, num_key_value_heads=4, sliding_window=WINDOW, layer_types=["full_attention", "sliding_attention"],
             attention_bias=True, logit_scale=1.5)),
    "ernie4_5/plain": ("neighbouring pairs rotate, head_dim 12, tied", dict(num_key_value_heads=2, head_dim=12, tie_word_embeddings=True)),
    "ernie4_5/biases": ("biases everywhere, K = N", dict(num_key_value_heads=4, head_dim=8, use_bias=True)),
    "exaone4/plain": (
        "norms after attention and MLP, three layers of four rotate and slide",
        dict(num_hidden_layers=4, num_key_value_heads=2, sliding_window=WINDOW)),
    "exaone4/full": (
        "no window, every layer rotates, K = 1, tied",
        dict(num_key_value_heads=1, sliding_window=None, layer_types=["full_attention"] * 2, tie_word_embeddings=True)),
    "ministral3/plain": (
        "YaRN, queries that grow with the position",
        dict(num_key_value_heads=2, head_dim=12, rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5})),
    "hunyuan_v1_dense/plain": ("norms of q and k behind the rotation, tied", dict(num_key_value_heads=2, head_dim=12, tie_word_embeddings=True)),
    "hunyuan_v1_dense/alpha": (
        "a base raised by alpha, biases, K = N",
        dict(num_key_value_heads=4, head_dim=8, attention_bias=True,
             rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "alpha": 50.0, "factor": 1.0})),
    "seed_oss/plain": ("biases on q, k and v, head_dim 12", dict(num_key_value_heads=2, head_dim=12)),
    "seed_oss/biases": ("biases everywhere, K = 1, tied", dict(
        num_key_value_heads=1, head_dim=8, attention_out_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "nanochat/plain": ("norms without weights, one behind the embedding, turned the other way round, a cap on logits", dict(
        num_key_value_heads=4, final_logit_softcapping=3.0)),
    "nanochat/grouped": ("K = 2, biases, no cap", dict(num_key_value_heads=2, attention_bias=True, final_logit_softcapping=None)),
    "arcee/plain": ("squared ReLU without a gate, head_dim 12", dict(num_key_value_heads=2, head_dim=12)),
    "arcee/biases": ("biases everywhere, K = N, tied, YaRN", dict(
        num_key_value_heads=4, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rope_parameters=YARN)),
    "apertus/plain": (
        "xIELU with parameters of each layer, Llama 3's frequencies",
        dict(num_key_value_heads=2, rope_parameters={
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 16, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0})),
    "apertus/biases": ("biases in attention, K = N, tied", dict(num_key_value_heads=4, attention_bias=True, tie_word_embeddings=True)),
    "llama4_text/plain": (
        "chunks of 9 in three layers of four, the fourth without rotation, whose queries grow; mixtures in every second layer, one expert of 5",
        dict(**LLAMA4, num_hidden_layers=4, num_key_value_heads=2, attention_chunk_size=WINDOW, interleave_moe_layer_step=2, floor_scale=8,
             attn_scale=0.5)),
    "llama4_text/options": (
        "no norms of q and k, no growth, layers without rotation and mixtures listed, two experts of a token, biases, K = 1, tied",
        dict(**{**LLAMA4, "num_experts_per_tok": 2}, num_hidden_layers=3, num_key_value_heads=1, attention_chunk_size=WINDOW,
             no_rope_layers=[0, 1, 1], moe_layers=[0], use_qk_norm=False, attn_temperature_tuning=False, attention_bias=True,
             tie_word_embeddings=True)),
    "llama4_text/long": (
        "chunks longer than the sequences, as in GGUF, Llama 3's frequencies, K = N",
        dict(**LLAMA4, num_hidden_layers=4, num_key_value_heads=4, rope_parameters={
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 16, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0})),
    "llama4_text/images": (
        "the language model of a file that holds a vision tower",
        dict(**LLAMA4, num_key_value_heads=2, attention_chunk_size=WINDOW, no_rope_layers=[1, 0])),
    "gemma4_text/plain": (
        "two head dims, the last three layers read the keys and values of earlier ones and have wider MLPs, per-layer embeddings, a cap on logits",
        dict(**GEMMA4, num_hidden_layers=6, num_key_value_heads=1, num_kv_shared_layers=3, use_double_wide_mlp=True,
             hidden_size_per_layer_input=8, vocab_size_per_layer_input=V, final_logit_softcapping=3.0,
             layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2)),
    "gemma4_text/keys": (
        "keys that are values and K of their own in full layers, no layer shares, no per-layer embeddings",
        dict(**GEMMA4, num_hidden_layers=3, num_key_value_heads=4, num_global_key_value_heads=2, attention_k_eq_v=True,
             hidden_size_per_layer_input=0, layer_types=["sliding_attention", "sliding_attention", "full_attention"])),
    "gemma4_text/experts": (
        "two experts of 5 beside the MLP of every layer, two head dims",
        dict(**GEMMA4, num_hidden_layers=3, num_key_value_heads=2, num_kv_shared_layers=0, hidden_size_per_layer_input=0,
             enable_moe_block=True, num_experts=5, top_k_experts=2, moe_intermediate_size=24,
             layer_types=["sliding_attention", "sliding_attention", "full_attention"])),
}
# As their families have them: only the sizes of BASE, but for these.
OWN_FIELDS = ("gpt2", "gpt_bigcode", "falcon", "opt")


def random_model(family, option, fields, seed):
    fields = fields if family in OWN_FIELDS else {**BASE, **fields}
    if fields.get("rms_norm_eps", 0) is None:
        del fields["rms_norm_eps"]
    config, model = CLASSES.get(family, (None, None))
    config = config(**fields) if config else AutoConfig.for_model(family, **fields)
    if option == "images" and family == "llama4_text":
        vision = dict(hidden_size=8, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4,
                      projector_input_dim=8, projector_output_dim=8, vision_output_dim=8)
        config, model = Llama4Config(text_config=config.to_dict(), vision_config=vision), Llama4ForConditionalGeneration
    elif option == "images":
        vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4)
        config = Gemma3Config(text_config=config, vision_config=vision, mm_tokens_per_image=4, image_token_index=60,
                              boi_token_index=58, eoi_token_index=59)
        model = Gemma3ForConditionalGeneration
    model = model(config) if model else AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            is_norm = name.endswith("weight") and ("norm" in name or "ln_" in name) or "router." in name and name.endswith("scale")
            # Gemma and Granite multiply embeddings, OPT adds positions: drawn wider, answers would repeat a token.
            embeddings = 0.12 if family.startswith(("gemma", "granite", "opt")) else 0.4
            is_embedding = "embed" in name or "wte" in name or "wpe" in name
            matrices = 0.5 if family == "opt" else 0.25
            scale = embeddings if is_embedding else 0.3 if "bias" in name else matrices
            one = 0 if family in ("gemma", "gemma2", "gemma3") else 1  # these norms multiply by 1 + w
            p.copy_(one + 0.3 * noise if is_norm else scale * noise)
        for name, b in model.named_buffers():
            if name.endswith("layer_scalar"):
                b.copy_(1 + 0.3 * torch.randn(b.shape, generator=generator))
    return model


def save(name, model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    if name == "gpt2/prefix":
        tensors = load_file(path)
        for layer in range(model.config.n_layer):
            mask = torch.ones(48, 48).tril().reshape(1, 1, 48, 48).to(torch.uint8)
            tensors |= {f"transformer.h.{layer}.attn.bias": mask, f"transformer.h.{layer}.attn.masked_bias": torch.tensor(-1e4)}
        save_file(tensors, path, metadata={"format": "pt"})
    if name == "gpt2/bare":
        save_file({k.removeprefix("transformer."): v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    if name == "gemma3/plain":
        old = json.loads((folder / "config.json").read_text())
        old = {key: value for key, value in old.items() if key not in ("rope_parameters", "layer_types")}
        old |= {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 1e4,
                "sliding_window_pattern": 6}
        (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")
        again = Gemma3TextConfig.from_dict(old)
        assert again.rope_parameters == model.config.rope_parameters and again.layer_types == model.config.layer_types
    if name == "phi3/longrope":
        old = json.loads((folder / "config.json").read_text())
        rope = old.pop("rope_parameters")
        old |= {"rope_theta": rope["rope_theta"], "partial_rotary_factor": rope["partial_rotary_factor"],
                "rope_scaling": {"type": "su", "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}}
        (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")
        renamed = json.loads(json.dumps(old).replace('"su"', '"longrope"'))  # transformers 5 fails on the first name
        assert Phi3Config.from_dict(renamed).rope_parameters == model.config.rope_parameters | {"type": "longrope"}


def checked_clearest(model, seed, length, new):
    best = clearest(model, seed, length, new)
    cached = model.generate(torch.tensor([best[0]]), max_new_tokens=new, min_new_tokens=new, do_sample=False,
                            eos_token_id=None, pad_token_id=0)[0, length:].tolist()
    assert cached == best[1], "transformers' own cached decoding disagrees with whole passes"
    return best


def main(out, chosen):
    torch.set_num_threads(1)
    for index, (name, (purpose, fields)) in enumerate(MODELS.items()):
        if chosen and name not in chosen:
            continue
        seed, (family, option) = 900 + index, name.split("/")
        folder = out / f"tiny-{family}" / option
        save(name, random_model(family, option, fields, seed), folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                     experts_implementation="eager").eval()

        generator = torch.Generator().manual_seed(seed + 100)
        tokens = torch.randint(0, V, (B, T), generator=generator)
        arrays = {"tokens": tokens, "logits": logits_of(model, tokens)}
        for row, length in enumerate(RAGGED):
            row_tokens = torch.randint(0, V, (length,), generator=generator)
            arrays |= {f"ragged/{row}/tokens": row_tokens, f"ragged/{row}/logits": logits_of(model, row_tokens[None])[0]}
        long = name == "phi3/longrope"
        answers = {"greedy": (20, 16), "crossing": (PROMPT, NEW)} if long else {"greedy": (PROMPT, NEW)}
        margin = {}
        for key, (length, new) in answers.items():
            prompt, answer, margins = checked_clearest(model, 10 * seed + length, length, new)
            margin[key] = min(margins)
            for what, values in {"prompt": prompt, "tokens": answer, "margins": margins}.items():
                arrays[f"{key}/{what}"] = torch.tensor(values)
        write_arrays(folder / "golden.safetensors", {k: v.numpy() for k, v in arrays.items()})
        noise = (logits_of(model.double(), tokens) - arrays["logits"]).abs().max()
        write_json(folder / "golden.json", {
            "script": "tools/golden/tiny_families.py", "versions": versions("torch", "transformers", "safetensors"),
            "purpose": purpose, "seed": seed, "attention": "eager, float32", "B": B, "T": T, "V": V, "raggedLengths": list(RAGGED),
            "minMargin": margin, "maxAbsLogit": float(arrays["logits"].abs().max()),
            # against a run whose matmuls and softmax are float64 (norms and angles stay float32, as
            # transformers has them)
            "float32Noise": float(noise),
        })
        print(name, "max |logit|", round(float(arrays["logits"].abs().max()), 2), "margin", margin, "noise", float(noise))
        assert not long or math.isclose(model.model.rotary_emb.attention_scaling, math.sqrt(1 + math.log(4) / math.log(16)))


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
main(Path(sys.argv[1]), sys.argv[2:])
