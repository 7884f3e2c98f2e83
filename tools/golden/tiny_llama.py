"""Makes test/golden/tiny-llama/<name>/: tiny random Llama checkpoints, saved by Hugging Face transformers,
and their logits.

The dimensions are small and awkward. Weights are drawn wide (not the usual std 0.02), so that a wrong
rotation, head mapping or norm moves the logits by far more than rounding does. The logits are transformers'
own, float32, eager attention.

Usage: python tiny_llama.py OUT        # OUT is test/golden/tiny-llama
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from golden_io import versions, write_arrays, write_json

B, T, PROMPT, NEW = 2, 37, 7, 24
RAGGED = (5, 19, 11)
MIN_MARGIN = 1e-2  # top-1 minus top-2 logit at every greedy step: far above the rounding of any correct program

BASE = dict(
    vocab_size=97, hidden_size=48, intermediate_size=56, num_hidden_layers=2, max_position_embeddings=256,
    rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# name -> (what it is for, config fields, saving options)
MODELS = {
    "mha": ("K = N, untied", dict(num_attention_heads=4, num_key_value_heads=4), {}),
    "gqa-tied": (
        "N = 6, K = 2, tied embeddings, rope_theta 500000",
        dict(num_attention_heads=6, num_key_value_heads=2, num_hidden_layers=3, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
        {}),
    "mqa": ("K = 1, untied, rms_norm_eps 1e-2", dict(num_attention_heads=4, num_key_value_heads=1, rms_norm_eps=1e-2), {}),
    "llama3-rope": (
        "N = 6, K = 2, Llama 3 frequency scaling: of the 8 frequencies one is kept, one blended, six divided by 8",
        dict(num_attention_heads=6, num_key_value_heads=2, head_dim=16, rope_parameters=LLAMA3_ROPE), {}),
    "head-dim": ("head_dim 20 where hidden / N = 12", dict(num_attention_heads=4, num_key_value_heads=2, head_dim=20), {}),
    "sharded": (
        "several safetensors files and model.safetensors.index.json",
        dict(num_attention_heads=4, num_key_value_heads=2), dict(max_shard_size="60KB")),
    "bias": (
        "attention_bias and mlp_bias",
        dict(num_attention_heads=4, num_key_value_heads=2, attention_bias=True, mlp_bias=True), {}),
    "bf16": (
        "weights stored as bf16; logits from the weights widened to f32",
        dict(num_attention_heads=4, num_key_value_heads=2), dict(dtype="bfloat16")),
    "f16": (
        "weights stored as f16; logits from the weights widened to f32",
        dict(num_attention_heads=4, num_key_value_heads=2), dict(dtype="float16")),
}


def random_model(fields, seed):
    model = LlamaForCausalLM(LlamaConfig(**{**BASE, **fields}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name:
                p.copy_(1 + 0.3 * noise)
            else:
                p.copy_((0.4 if "embed" in name else 0.3 if "bias" in name else 0.25) * noise)
    return model


def add_v4_config(folder, config):
    """The same config in the older spelling (rope_theta, rope_scaling, torch_dtype; head_dim only where it is
    not D / N), which is what nearly every published checkpoint carries."""
    old = json.loads((folder / "config.json").read_text())
    rope = old.pop("rope_parameters")
    old["torch_dtype"] = old.pop("dtype")
    del old["transformers_version"]
    if old["head_dim"] * old["num_attention_heads"] == old["hidden_size"]:
        del old["head_dim"]
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")
    again = LlamaConfig.from_dict(old)
    assert (again.rope_parameters, again.head_dim) == (config.rope_parameters, config.head_dim)


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.as_tensor(tokens), use_cache=False).logits.float()


def greedy(model, prompt):
    """Greedy decoding by whole passes, without a cache. Returns the new tokens and the margin of each."""
    tokens, margins = list(prompt), []
    for _ in range(NEW):
        top = logits_of(model, [tokens])[0, -1].topk(2)
        margins.append(float(top.values[0] - top.values[1]))
        tokens.append(int(top.indices[0]))
    return tokens[len(prompt):], margins


def greedy_with_clear_margins(model, seed):
    for attempt in range(200):
        generator = torch.Generator().manual_seed(1000 * seed + attempt)
        prompt = torch.randint(3, BASE["vocab_size"], (PROMPT,), generator=generator).tolist()
        new, margins = greedy(model, prompt)
        if min(margins) > MIN_MARGIN and len(set(new)) >= 8:
            return prompt, new, margins, attempt
    raise SystemExit("no prompt with clear margins found")


def main(out):
    torch.set_num_threads(1)
    for index, (name, (purpose, fields, saving)) in enumerate(MODELS.items()):
        seed = 11 + index
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        model = random_model(fields, seed)
        if "dtype" in saving:
            model = model.to(getattr(torch, saving["dtype"]))
        shard = {k: v for k, v in saving.items() if k == "max_shard_size"}
        model.save_pretrained(folder, **shard)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        add_v4_config(folder, model.config)

        generator = torch.Generator().manual_seed(seed + 100)
        tokens = torch.randint(0, BASE["vocab_size"], (B, T), generator=generator)
        arrays = {"tokens": tokens, "logits": logits_of(model, tokens)}
        for row, length in enumerate(RAGGED):
            row_tokens = torch.randint(0, BASE["vocab_size"], (length,), generator=generator)
            arrays[f"ragged/{row}/tokens"] = row_tokens
            arrays[f"ragged/{row}/logits"] = logits_of(model, row_tokens[None])[0]
        prompt, new, margins, attempt = greedy_with_clear_margins(model, seed)
        cached = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
                                eos_token_id=None, pad_token_id=0)[0, PROMPT:].tolist()
        assert cached == new, "transformers' own cached decoding disagrees with whole passes"
        arrays |= {"greedy/prompt": torch.tensor(prompt), "greedy/tokens": torch.tensor(new), "greedy/margins": torch.tensor(margins)}
        write_arrays(folder / "golden.safetensors", {k: v.numpy() for k, v in arrays.items()})
        config = model.config
        noise = (model.double()(tokens, use_cache=False).logits - arrays["logits"]).abs().max()
        write_json(folder / "golden.json", {
            "script": "tools/golden/tiny_llama.py",
            "versions": versions("torch", "transformers", "safetensors"),
            "purpose": purpose,
            "seed": seed,
            "attention": "eager, float32",
            "shape": {
                "layers": config.num_hidden_layers, "N": config.num_attention_heads, "K": config.num_key_value_heads,
                "H": config.head_dim, "D": config.hidden_size, "V": config.vocab_size, "tied": config.tie_word_embeddings,
            },
            "B": B, "T": T, "raggedLengths": list(RAGGED),
            "greedy": {"promptLength": PROMPT, "newTokens": NEW, "minMargin": min(margins), "attempt": attempt},
            "maxAbsLogit": float(arrays["logits"].abs().max()),
            # against a run whose matmuls and softmax are float64 (norms and angles stay float32, as
            # transformers has them)
            "float32Noise": float(noise),
        })
        print(name, "max |logit|", round(float(arrays["logits"].abs().max()), 3), "greedy", new, "margin", round(min(margins), 4))


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
main(Path(sys.argv[1]))
