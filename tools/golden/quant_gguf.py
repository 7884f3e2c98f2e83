"""Makes test/golden/quant/*.gguf and gguf.{safetensors,json}: whole tiny Llama models as GGUF, in llama.cpp's
layout.

Written with the gguf package as llama.cpp's converter does: q and k rows permuted to interleaved rotation,
`rope_freqs.weight` for Llama 3 scaling, no `output.weight` when tied, no tokenizer. The logits are
transformers' own on the dequantised weights; where transformers' GGUF reader can read the file, its logits
are compared with them first.

Usage: python quant_gguf.py TINY_LLAMA OUT        # test/golden/tiny-llama (for two of the models) and test/golden/quant
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGUFWriter, GGMLQuantizationType as Type, LlamaFileType
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from golden_io import versions, write_arrays, write_json

B, T, PROMPT, NEW, TRIES = 2, 23, 7, 16, 150
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
MIXED = {
    "token_embd.weight": Type.Q8_0, "output.weight": Type.Q4_1,
    "blk.0.attn_q.weight": Type.Q4_0, "blk.0.attn_k.weight": Type.Q8_0, "blk.0.attn_v.weight": Type.Q4_1, "blk.0.attn_output.weight": Type.Q4_0,
    "blk.0.ffn_gate.weight": Type.Q4_1, "blk.0.ffn_up.weight": Type.Q4_0, "blk.0.ffn_down.weight": Type.Q8_0,
    "blk.1.attn_q.weight": Type.Q8_0, "blk.1.attn_k.weight": Type.Q4_1, "blk.1.attn_v.weight": Type.Q8_0, "blk.1.attn_output.weight": Type.Q4_1,
    "blk.1.ffn_gate.weight": Type.F16, "blk.1.ffn_up.weight": Type.BF16, "blk.1.ffn_down.weight": Type.Q4_0,
}


def gguf_name(name):
    if name in TOP:
        return TOP[name]
    _, _, layer, rest = name.split(".", 3)
    stem, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[stem]}.{kind}"


def permute(w, heads):
    """Half-split to interleaved: rows (2, H/2) of each head become (H/2, 2)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def heads_to_permute(name, config):
    return config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads if ".attn_k." in name else 0


def write_gguf(path, model, types):
    """types: tensor name -> storage type, '*' for every other matrix; vectors stay F32. Returns the weights
    as a reader sees them."""
    config, writer, seen = model.config, GGUFWriter(path, "llama"), {}
    head_dim, rope = config.head_dim, config.rope_parameters
    writer.add_name(path.stem)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    if head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type({Type.F32: LlamaFileType.ALL_F32, Type.F16: LlamaFileType.MOSTLY_F16}.get(types["*"], LlamaFileType.MOSTLY_Q8_0))
    writer.add_quantization_version(2)
    if rope["rope_type"] == "llama3":
        plain = rope["rope_theta"] ** -(torch.arange(0, head_dim, 2) / head_dim)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy().astype(np.float32))
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target, w = gguf_name(name), weight.numpy()
        heads = heads_to_permute(target, config)
        w = permute(w, heads) if heads else w
        kind = types.get(target, types["*"]) if w.ndim == 2 else Type.F32
        raw = quantize(w, kind)
        writer.add_tensor(target, raw, raw_dtype=kind)
        read = dequantize(raw, kind).astype(np.float32).reshape(w.shape)
        seen[name] = torch.from_numpy((unpermute(read, heads) if heads else read).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return seen


def second_model():
    """Dimensions that are multiples of 32, so that rows divide into blocks."""
    config = LlamaConfig(
        vocab_size=101, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model, generator = LlamaForCausalLM(config), torch.Generator().manual_seed(700)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.3 * noise if "norm" in name else (0.4 if "embed" in name else 0.22) * noise)
    return model


@torch.no_grad()
def logits_of(model, tokens):
    return model(tokens, use_cache=False).logits


def greedy(model, prompt):
    tokens, margins = prompt, []
    for _ in range(NEW):
        top = logits_of(model, tokens[None])[0, -1].topk(2)
        margins.append(top.values[0] - top.values[1])
        tokens = torch.cat((tokens, top.indices[:1]))
    return tokens[PROMPT:], torch.stack(margins)


def clearest_prompt(model, generator):
    """Of many random prompts the one whose continuation is least sensitive to small errors, such as quantised
    activations."""
    best = None
    for _ in range(TRIES):
        prompt = torch.randint(0, model.config.vocab_size, (PROMPT,), generator=generator)
        new, margins = greedy(model, prompt)
        if len(set(new.tolist())) >= 8 and (best is None or margins.min() > best[2].min()):
            best = prompt, new, margins
    return best


def with_weights(model, weights):
    again = LlamaForCausalLM(model.config)
    missing = again.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}
    again.tie_weights()
    again.set_attn_implementation("eager")
    return again.eval()


def main(tiny, out):
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    load = lambda name: LlamaForCausalLM.from_pretrained(tiny / name, dtype=torch.float32)
    tied, scaled, second = load("gqa-tied"), load("llama3-rope"), second_model()
    files = {
        "gqa-tied-f32": (tied, {"*": Type.F32}),
        "gqa-tied-f16": (tied, {"*": Type.F16}),
        "llama3-rope-f32": (scaled, {"*": Type.F32}),
        "second-f32": (second, {"*": Type.F32}),
        "second-q8_0": (second, {"*": Type.Q8_0}),
        "second-mixed": (second, {"*": Type.Q8_0, **MIXED}),
    }
    arrays, cases = {}, []
    for index, (name, (model, types)) in enumerate(files.items()):
        path = out / f"{name}.gguf"
        reader = with_weights(model, write_gguf(path, model, types))
        config = model.config
        generator = torch.Generator().manual_seed(710 + index)
        tokens = torch.randint(0, config.vocab_size, (B, T), generator=generator)
        prompt, new, margins = clearest_prompt(reader, generator)
        logits = logits_of(reader, tokens)
        checked = "rope_type" in config.rope_parameters and config.rope_parameters["rope_type"] == "default"
        if checked:
            theirs = LlamaForCausalLM.from_pretrained(out, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
            error = (logits_of(theirs, tokens) - logits).abs().max()
            assert error < 1e-4, (name, float(error))
        for key, value in {"tokens": tokens, "logits": logits, "greedy/prompt": prompt, "greedy/tokens": new, "greedy/margins": margins}.items():
            arrays[f"{name}/{key}"] = value.numpy()
        cases.append({
            "name": name, "file": path.name, "readByTransformers": checked, "minMargin": float(margins.min()),
            "shape": {"layers": config.num_hidden_layers, "N": config.num_attention_heads, "K": config.num_key_value_heads,
                      "H": config.head_dim, "D": config.hidden_size, "V": config.vocab_size, "tied": config.tie_word_embeddings},
            "types": {k: v.name for k, v in types.items()},
        })
        print(name, path.stat().st_size, "max |logit|", float(logits.abs().max()), "margin", float(margins.min()))
    write_arrays(out / "gguf.safetensors", arrays)
    write_json(out / "gguf.json", {
        "script": "tools/golden/quant_gguf.py", "versions": versions("torch", "transformers", "gguf"), "attention": "eager, float32",
        "B": B, "T": T, "cases": cases,
    })


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
main(Path(sys.argv[1]), Path(sys.argv[2]))
