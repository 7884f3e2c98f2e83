"""Makes test/golden/ops/ops.{safetensors,json}: the small ops of a transformer, forward and backward, in
float32.

PyTorch's own functions where it has one; rotations by the modelling code of transformers (Llama for
half-split, Cohere for interleaved); inverse frequencies by transformers. Row lengths sit around the vector
widths 4, 8 and 16.

Usage: python ops.py OUT        # OUT is test/golden/ops
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.cohere import modeling_cohere
from transformers.models.llama import modeling_llama

from golden_io import versions, write_arrays, write_json

WIDTHS = (1, 3, 7, 8, 13, 17, 31, 67)


def rms_norm(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def swiglu(gate, up):
    return F.silu(gate) * up


def gelu_gate(gate, up):
    return F.gelu(gate, approximate="tanh") * up


def rotate(x, positions, inv_freq, interleaved):
    """x [B, T, N, H]; positions [B, T]; the first 2 * len(inv_freq) dims of each head rotate, the rest pass
    through."""
    angles = positions[..., None].float() * inv_freq
    if interleaved:
        apply, angles = modeling_cohere.apply_rotary_pos_emb, angles.repeat_interleave(2, -1)
    else:
        apply, angles = modeling_llama.apply_rotary_pos_emb, torch.cat((angles, angles), -1)
    turning, passing = x[..., : angles.shape[-1]], x[..., angles.shape[-1] :]
    turned, _ = apply(turning, turning, angles.cos(), angles.sin(), unsqueeze_dim=2)
    return torch.cat((turned, passing), -1)


def cross_entropy(logits, targets):
    return F.cross_entropy(logits, targets.long())


def llama_frequencies(head_dim, rope):
    config = LlamaConfig(hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim, max_position_embeddings=131072, rope_parameters=rope)
    if rope["rope_type"] == "default":
        return modeling_llama.LlamaRotaryEmbedding(config).inv_freq
    inv_freq, attention_scaling = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    assert attention_scaling == 1.0
    return inv_freq


def llama3(theta, factor, original):
    return {"rope_type": "llama3", "rope_theta": theta, "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original}


FREQUENCIES = {
    "default": (16, {"rope_type": "default", "rope_theta": 10000.0}),
    "smollm2": (64, {"rope_type": "default", "rope_theta": 100000.0}),
    "llama-3.1-8b": (128, llama3(500000.0, 8.0, 8192)),
    "llama-3.2-1b": (64, llama3(500000.0, 32.0, 8192)),
    "tiny-llama": (16, llama3(10000.0, 8.0, 32)),
}


def cases(normal):
    """Yields name, op, options (the library's spelling), function, the arguments by name (gradients are taken
    of the float ones)."""
    for n in WIDTHS:
        x, w, b = normal(3, 5, n) * 2 + 0.3, 1 + 0.3 * normal(n), normal(n)
        yield f"rms-norm-{n}", "rmsNorm", {"eps": 1e-5}, lambda x, weight: rms_norm(x, weight, 1e-5), dict(x=x, weight=w)
        yield f"layer-norm-{n}", "layerNorm", {"eps": 1e-5}, lambda x, weight, bias: layer_norm(x, weight, bias, 1e-5), dict(x=x, weight=w, bias=b)
        yield f"softmax-{n}", "softmax", {"axis": -1}, lambda x: F.softmax(x, -1), dict(x=x * 4)
    yield "rms-norm-large-eps", "rmsNorm", {"eps": 0.5}, lambda x, weight: rms_norm(x, weight, 0.5), dict(x=normal(3, 13), weight=normal(13))
    yield "rms-norm-tiny-input", "rmsNorm", {"eps": 1e-6}, lambda x, weight: rms_norm(x, weight, 1e-6), dict(x=normal(3, 13) * 1e-3, weight=normal(13))
    yield "rms-norm-no-weight", "rmsNorm", {"eps": 1e-6}, lambda x: rms_norm(x, None, 1e-6), dict(x=normal(2, 3, 11))
    yield "layer-norm-offset", "layerNorm", {"eps": 1e-6}, lambda x, weight, bias: layer_norm(x, weight, bias, 1e-6), dict(
        x=normal(3, 17) + 100, weight=normal(17), bias=normal(17))  # a one-pass variance in float32 loses this one
    yield "softmax-axis-1", "softmax", {"axis": 1}, lambda x: F.softmax(x, 1), dict(x=normal(2, 7, 5))
    yield "softmax-large", "softmax", {"axis": -1}, lambda x: F.softmax(x, -1), dict(x=normal(3, 19) * 300)
    yield "log-softmax", "logSoftmax", {"axis": -1}, lambda x: F.log_softmax(x, -1), dict(x=normal(3, 5, 17) * 5)
    wide = torch.cat((torch.linspace(-12, 12, 97), torch.tensor([0.0, -0.0, 1e-8, -1e-8, 50.0, -50.0, 1e4, -1e4])))
    yield "gelu-tanh", "gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh"), dict(x=wide)
    yield "gelu-erf", "gelu", {"approximate": "none"}, F.gelu, dict(x=wide)
    yield "silu", "silu", {}, F.silu, dict(x=wide)
    yield "relu", "relu", {}, F.relu, dict(x=normal(3, 17))
    yield "tanh", "tanh", {}, torch.tanh, dict(x=wide)
    yield "swiglu", "swiglu", {}, swiglu, dict(gate=normal(2, 5, 17) * 3, up=normal(2, 5, 17))
    yield "geglu", "geglu", {"approximate": "tanh"}, gelu_gate, dict(gate=normal(2, 5, 17) * 3, up=normal(2, 5, 17))
    yield "cross-entropy", "crossEntropy", {}, cross_entropy, dict(logits=normal(7, 19) * 3, targets=torch.tensor([0, 18, 3, 3, 7, 11, 2]))

    near = torch.tensor([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11], [0, 0, 5, 2, 100]])
    far = torch.tensor([[0, 1, 1000, 4095, 8191]])
    for style in ("half-split", "interleaved"):
        turn = lambda x, positions, inv_freq, style=style: rotate(x, positions, inv_freq, style == "interleaved")
        for name, positions, H, frequencies in (
            ("", near, 16, llama_frequencies(*FREQUENCIES["default"])),
            ("-partial", near, 11, llama_frequencies(6, FREQUENCIES["default"][1])),
            ("-llama3", near, 16, llama_frequencies(*FREQUENCIES["tiny-llama"])),
            ("-far", far, 64, llama_frequencies(*FREQUENCIES["smollm2"])),
        ):
            options = {"interleaved": style == "interleaved", "rotaryDim": 2 * len(frequencies)}
            inputs = dict(x=normal(len(positions), 5, 3, H), positions=positions.int(), invFreq=frequencies)
            yield f"rope-{style}{name}", "rope", options, lambda x, positions, invFreq, turn=turn: turn(x, positions, invFreq), inputs


def main(out):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(500)
    normal = lambda *shape: torch.randn(shape, generator=generator)
    arrays, listed = {}, []
    for name, op, options, fn, inputs in cases(normal):
        leaves = {k: v.clone().requires_grad_() for k, v in inputs.items() if v.is_floating_point() and k != "invFreq"}
        output = fn(*{**inputs, **leaves}.values())
        grad_output = normal(*output.shape)
        grads = torch.autograd.grad(output, list(leaves.values()), grad_output)
        exact = fn(*(v.double() if v.is_floating_point() else v for v in inputs.values()))
        tensors = inputs | {"output": output, "gradOutput": grad_output}
        tensors |= {"grad" + k[0].upper() + k[1:]: g for k, g in zip(leaves, grads)}
        arrays |= {f"{name}/{k}": v.detach().numpy() for k, v in tensors.items()}
        noise = float((output.detach() - exact).abs().max() / max(1, float(exact.abs().max())))
        listed.append({"name": name, "op": op, "options": options, "inputs": list(inputs), "float32Noise": noise})
    frequencies = []
    for name, (head_dim, rope) in FREQUENCIES.items():
        arrays[f"inv-freq-{name}/output"] = llama_frequencies(head_dim, rope).numpy()
        frequencies.append({"name": f"inv-freq-{name}", "H": head_dim, "rope": rope})
    write_arrays(out / "ops.safetensors", arrays)
    write_json(out / "ops.json", {
        "script": "tools/golden/ops.py", "versions": versions("torch", "transformers"), "seed": 500,
        "float32Noise": "max |float32 - float64| / max(1, max |float64|) of the same function, angles excepted",
        "cases": listed, "frequencies": frequencies,
    })
    print(len(listed), "cases")
    for case in listed:
        if case["float32Noise"] > 1e-6:
            print(case)


main(Path(sys.argv[1]))
