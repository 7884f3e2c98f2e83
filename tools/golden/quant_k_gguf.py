"""Makes test/golden/quant/k-mixed.gguf and k-mixed.{safetensors,json}: a tiny Llama whose matrices are in the
K and 5-bit types.

The gguf package reads the K types but does not write them, so this file quantises by the plain rule (scale
and minimum from each group's range; ggml searches for better ones, in the same layout). The logits are
transformers' on what the package reads back.

Usage: python quant_k_gguf.py OUT        # OUT is test/golden/quant
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGUFWriter, GGMLQuantizationType as Type, LlamaFileType
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM

from golden_io import versions, write_arrays, write_json
from tiny_models import add_vocabulary

V, D, I, N, K, B, T, PROMPT, NEW, TRIES = 61, 256, 256, 4, 2, 2, 19, 7, 16, 200
TYPES = {
    "token_embd": Type.Q4_K, "output": Type.Q6_K, "attn_q": Type.Q4_K, "attn_k": Type.Q5_K, "attn_v": Type.Q6_K, "attn_output": Type.Q4_K,
    "ffn_gate": Type.Q5_0, "ffn_up": Type.Q5_1, "ffn_down": Type.Q6_K,
}
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def half_bytes(x):
    return x.astype(np.float16).reshape(-1, 1).view(np.uint8)


def steps(x, step):
    """x / step, 0 where the step is."""
    return np.divide(x, step, out=np.zeros_like(x), where=step != 0)


def quantize_45(w, bits):
    """Q4_K (4 bits) or Q5_K: eight groups of 32, a 6-bit scale and a 6-bit minimum each."""
    top, groups = 2**bits - 1, w.reshape(-1, 8, 32).astype(np.float64)
    low = np.minimum(groups.min(-1), 0)
    scale, d, dmin = (groups.max(-1) - low) / top, None, None
    d, dmin = (np.float16(x.max(-1) / 63).astype(np.float64)[:, None] for x in (scale, -low))
    sc, mn = (np.rint(steps(x, np.broadcast_to(s, x.shape))).clip(0, 63).astype(np.uint8) for x, s in ((scale, d), (-low, dmin)))
    q = np.rint(steps(groups + (dmin * mn)[..., None], np.broadcast_to((d * sc)[..., None], groups.shape))).clip(0, top).astype(np.uint8)
    packed = np.concatenate([sc[:, :4] | (sc[:, 4:] >> 4 << 6), mn[:, :4] | (mn[:, 4:] >> 4 << 6), (sc[:, 4:] & 15) | (mn[:, 4:] << 4)], 1)
    low_bits = (q[:, 0::2] & 15) | (q[:, 1::2] << 4)
    high_bits = [(q >> 4 << np.arange(8, dtype=np.uint8)[:, None]).sum(1, dtype=np.uint8)] if bits == 5 else []
    return np.concatenate([half_bytes(d), half_bytes(dmin), packed, *high_bits, low_bits.reshape(-1, 128)], 1)


def quantize_q6(w):
    """Q6_K: sixteen groups of 16, an int8 scale each."""
    groups = w.reshape(-1, 16, 16).astype(np.float64)
    scale = np.abs(groups).max(-1) / 31
    d = np.float16(scale.max(-1) / 127).astype(np.float64)[:, None]
    sc = np.rint(steps(scale, np.broadcast_to(d, scale.shape))).clip(-128, 127)
    q = np.rint(steps(groups, np.broadcast_to((d * sc)[..., None], groups.shape))).clip(-32, 31).astype(np.int64) + 32
    q = q.reshape(-1, 2, 4, 32).astype(np.uint8)
    low = (q[:, :, :2] & 15) | (q[:, :, 2:] << 4)
    high = ((q >> 4) << np.array([0, 2, 4, 6], np.uint8)[:, None]).sum(2, dtype=np.uint8)
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), sc.astype(np.int8).view(np.uint8), half_bytes(d)], 1)


def stored(w, kind):
    if kind in (Type.Q4_K, Type.Q5_K):
        raw = quantize_45(w, 4 if kind == Type.Q4_K else 5)
    else:
        raw = quantize_q6(w) if kind == Type.Q6_K else quantize(w, kind)
    return np.ascontiguousarray(raw).reshape(w.shape[0], -1)


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def random_model():
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=I, num_hidden_layers=1, num_attention_heads=N, num_key_value_heads=K,
        max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}))
    generator = torch.Generator().manual_seed(800)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.3 * noise if "norm" in name else (0.4 if "embed" in name else 0.1) * noise)
    return model


def write_gguf(path, model):
    """Returns the weights as the gguf package reads them."""
    writer, seen = GGUFWriter(path, "llama"), {}
    writer.add_name(path.stem)
    writer.add_context_length(64)
    writer.add_embedding_length(D)
    writer.add_block_count(1)
    writer.add_feed_forward_length(I)
    writer.add_head_count(N)
    writer.add_head_count_kv(K)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(D // N)
    writer.add_vocab_size(V)
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(2)
    add_vocabulary(writer, V)
    for name, weight in model.state_dict().items():
        base = name.removesuffix(".weight")
        short = NAMES[base.removeprefix("model.layers.0.")]
        target = f"{short}.weight" if base in NAMES else f"blk.0.{short}.weight"
        w = weight.numpy()
        heads = {"attn_q": N, "attn_k": K}.get(short, 0)
        w = permute(w, heads) if heads else w
        if w.ndim == 1:
            writer.add_tensor(target, w)
            seen[name] = weight
            continue
        raw = stored(w, TYPES[short])
        writer.add_tensor(target, raw, raw_dtype=TYPES[short])
        read = dequantize(raw, TYPES[short]).astype(np.float32).reshape(w.shape)
        print(f"{short:12} {TYPES[short].name:5} rms error / rms {np.sqrt(((read - w) ** 2).mean() / (w**2).mean()):.4f}")
        seen[name] = torch.from_numpy((unpermute(read, heads) if heads else read).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return seen


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


def main(out):
    torch.set_num_threads(1)
    model = random_model()
    path = out / "k-mixed.gguf"
    model.load_state_dict(write_gguf(path, model))
    model.set_attn_implementation("eager")
    model.eval()
    generator, best = torch.Generator().manual_seed(801), None
    tokens = torch.randint(0, V, (B, T), generator=generator)
    for _ in range(TRIES):  # wide margins, so that llama.cpp's quantised activations do not change the tokens
        prompt = torch.randint(3, V, (PROMPT,), generator=generator)
        new, margins = greedy(model, prompt)
        if len(set(new.tolist())) >= 8 and (best is None or margins.min() > best[2].min()):
            best = prompt, new, margins
    arrays = {"tokens": tokens, "logits": logits_of(model, tokens), "greedy/prompt": best[0], "greedy/tokens": best[1], "greedy/margins": best[2]}
    write_arrays(out / "k-mixed.safetensors", {k: v.numpy() for k, v in arrays.items()})
    write_json(out / "k-mixed.json", {
        "script": "tools/golden/quant_k_gguf.py", "versions": versions("torch", "transformers", "gguf"), "attention": "eager, float32",
        "shape": {"layers": 1, "N": N, "K": K, "H": D // N, "D": D, "V": V}, "types": {k: v.name for k, v in TYPES.items()},
        "B": B, "T": T, "minMargin": float(best[2].min()), "maxAbsLogit": float(arrays["logits"].abs().max()),
    })
    print(path.stat().st_size, "bytes, margin", float(best[2].min()))


transformers.utils.logging.set_verbosity_error()
main(Path(sys.argv[1]))
