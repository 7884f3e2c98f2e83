"""Makes test/golden/attention/torch.{safetensors,json}: PyTorch's
scaled_dot_product_attention(enable_gqa=True), forward and backward, on the CPU in float32. Layout [B, N, T,
H]. Each output is compared with the float64 formula before it is written.

Usage: python attention_torch.py OUT        # OUT is test/golden/attention
"""

import sys
from pathlib import Path

import torch

import attention_formula as formula
from golden_io import versions, write_arrays, write_json

CAUSAL = {"isCausal": True}
CASES = [
    dict(name="mha", B=2, T=5, S=5, N=3, K=3, H=7),
    dict(name="mha-causal", B=2, T=7, S=7, N=5, K=5, H=3, options=CAUSAL),
    dict(name="mha-cross", B=3, T=5, S=11, N=3, K=3, H=13),
    dict(name="gqa", B=2, T=7, S=11, N=6, K=2, H=5),
    dict(name="gqa-causal", B=2, T=13, S=13, N=15, K=3, H=19, options=CAUSAL),
    dict(name="gqa-causal-longer-keys", B=2, T=5, S=11, N=6, K=3, H=13, options=CAUSAL),
    dict(name="gqa-causal-longer-queries", B=2, T=13, S=7, N=6, K=2, H=5, options=CAUSAL),
    dict(name="gqa-scale", B=3, T=5, S=7, N=10, K=5, H=3, options={"scale": 0.3}),
    dict(name="gqa-value-dim", B=2, T=7, S=11, N=6, K=2, H=5, Hv=13),
    dict(name="gqa-value-dim-causal", B=2, T=7, S=17, N=6, K=2, H=19, Hv=3, options=CAUSAL),
    dict(name="gqa-mask", B=2, T=5, S=11, N=6, K=2, H=7, mask=(2, 6, 5, 11)),
    dict(name="gqa-mask-shared", B=3, T=7, S=11, N=6, K=3, H=5, mask=(1, 1, 7, 11)),
    dict(name="gqa-mask-padding", B=3, T=5, S=17, N=6, K=2, H=5, mask=(3, 1, 1, 17)),
    dict(name="gqa-mask-empty-rows", B=2, T=7, S=11, N=6, K=2, H=5, mask=(2, 1, 7, 11), emptyAt=[(0, 0), (0, 3), (1, 6)]),
    dict(name="gqa-bias", B=2, T=5, S=11, N=6, K=2, H=7, bias=(2, 6, 5, 11)),
    dict(name="gqa-bias-per-head", B=2, T=7, S=13, N=10, K=2, H=3, bias=(1, 10, 7, 13)),
    dict(name="gqa-bias-per-row", B=3, T=5, S=7, N=6, K=2, H=5, bias=(3, 1, 1, 7), options={"scale": 1.0}),
    dict(name="mqa", B=2, T=7, S=11, N=7, K=1, H=5),
    dict(name="mqa-causal", B=3, T=13, S=13, N=5, K=1, H=19, options=CAUSAL),
    dict(name="mqa-decode", B=3, T=1, S=17, N=11, K=1, H=13, mask=(3, 1, 1, 17)),
    dict(name="gqa-one-key", B=2, T=3, S=1, N=6, K=2, H=5),
    dict(name="gqa-sharp", B=2, T=5, S=7, N=6, K=2, H=13, amplitude=10),
    dict(name="gqa-long", B=1, T=67, S=131, N=6, K=2, H=17, options=CAUSAL),
]
GRADS = {"query": "gradQuery", "key": "gradKey", "value": "gradValue", "bias": "gradBias"}


def run(case, seed):
    arrays = formula.draw(case, seed)
    heads_first = {k: torch.from_numpy(v.swapaxes(1, 2).copy() if k in ("query", "key", "value") else v) for k, v in arrays.items()}
    leaves = {k: v.requires_grad_() for k, v in heads_first.items() if k in GRADS}
    options = case.get("options", {})
    output = torch.nn.functional.scaled_dot_product_attention(
        heads_first["query"], heads_first["key"], heads_first["value"], attn_mask=heads_first.get("mask", heads_first.get("bias")),
        is_causal=options.get("isCausal", False), scale=options.get("scale"), enable_gqa=True)
    grad_output = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
    grads = torch.autograd.grad(output, list(leaves.values()), grad_output)

    double = formula.doubles(arrays)
    for name in leaves:
        double[name].requires_grad_()
    expected, lse, _ = formula.attention(case, **double)
    assert torch.allclose(output.double(), expected.transpose(1, 2), rtol=0, atol=1e-5), case["name"]
    theirs = torch.autograd.grad(expected, [double[k] for k in leaves], grad_output.double().transpose(1, 2))
    for name, grad, their in zip(leaves, grads, theirs):
        their = their if name == "bias" else their.transpose(1, 2)
        worst = (grad.double() - their).abs().max() / max(1, their.abs().max())
        assert worst < 5e-6, (case["name"], name, worst)

    rows = formula.empty_rows(case, arrays.get("mask"))
    for b, n, t in rows:
        assert (output[b, n, t] == 0).all(), case["name"]
    tensors = heads_first | {"output": output, "logSumExp": lse.transpose(1, 2), "gradOutput": grad_output}
    tensors |= {GRADS[k]: g for k, g in zip(leaves, grads)}
    return {f"{case['name']}/{k}": v.detach().numpy() for k, v in tensors.items()}, formula.describe(case, "BNTH", rows)


def main(out):
    torch.set_num_threads(1)
    arrays, cases = {}, []
    for index, case in enumerate(CASES):
        tensors, described = run(case, 100 + index)
        arrays |= tensors
        cases.append(described)
    write_arrays(out / "torch.safetensors", arrays)
    write_json(out / "torch.json", {
        "script": "tools/golden/attention_torch.py", "versions": versions("torch"), "seed": "100 + index of the case",
        "logSumExp": "from the float64 formula in attention_formula.py", "emptyRowOutput": "zeros", "cases": cases,
    })
    print(len(cases), "cases")


main(Path(sys.argv[1]))
