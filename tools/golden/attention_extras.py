"""Makes test/golden/attention/formula.{safetensors,json} and flax-dropout.{safetensors,json}.

formula: what jax.nn and PyTorch's attention do not have (soft cap, sinks, bottom-right alignment, log-sum-exp
with these), from the float64 formula in attention_formula.py, with gradients by PyTorch's autograd in
float64. flax-dropout: Flax's own dot_product_attention with dropout, and the same computed from
jax.random.bernoulli.

Usage: python attention_extras.py OUT        # OUT is test/golden/attention
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import attention_formula as formula
from golden_io import versions, write_arrays, write_json

BOTTOM_RIGHT = {"isCausal": True, "causalAlignment": "bottomRight"}
CASES = [
    dict(name="softcap", B=2, T=5, S=7, N=6, K=2, H=13, options={"logitsSoftCap": 2.5}),
    dict(name="softcap-before-bias", B=2, T=5, S=11, N=6, K=2, H=5, bias=(1, 6, 5, 11), options={"logitsSoftCap": 1.5, "scale": 0.9}),
    dict(name="softcap-before-mask-causal", B=2, T=11, S=11, N=6, K=3, H=5, mask=(2, 1, 11, 11), options={"logitsSoftCap": 3.0, "isCausal": True}),
    dict(name="sinks", B=2, T=5, S=7, N=6, K=2, H=13, sinks=True),
    dict(name="sinks-window-causal", B=2, T=13, S=13, N=10, K=5, H=3, sinks=True, options={"isCausal": True, "localWindowSize": [3, 0]}),
    dict(name="sinks-bias-mask", B=3, T=7, S=11, N=6, K=2, H=5, sinks=True, bias=(1, 6, 7, 11), mask=(3, 1, 7, 11)),
    dict(name="sinks-softcap-value-dim", B=2, T=5, S=17, N=7, K=1, H=5, Hv=11, sinks=True, options={"logitsSoftCap": 4.0}),
    dict(name="sinks-empty-rows", B=2, T=7, S=11, N=6, K=2, H=5, sinks=True, mask=(2, 1, 7, 11), emptyAt=[(0, 1), (1, 5)]),
    dict(name="bottom-right-longer-keys", B=2, T=5, S=13, N=6, K=2, H=5, options=BOTTOM_RIGHT),
    dict(name="bottom-right-longer-queries", B=2, T=13, S=5, N=6, K=2, H=5, options=BOTTOM_RIGHT),
    dict(name="bottom-right-decode", B=3, T=1, S=17, N=6, K=2, H=5, options=BOTTOM_RIGHT),
    dict(name="bottom-right-lengths", B=3, T=5, S=13, N=6, K=2, H=5,
         options={**BOTTOM_RIGHT, "querySeqLengths": [5, 3, 4], "keyValueSeqLengths": [13, 3, 7]}),
    dict(name="bottom-right-window-lengths", B=3, T=5, S=13, N=6, K=2, H=5,
         options={**BOTTOM_RIGHT, "keyValueSeqLengths": [13, 6, 9], "localWindowSize": [2, 0]}),
    dict(name="log-sum-exp", B=2, T=7, S=11, N=6, K=2, H=5, bias=(2, 6, 7, 11), options={"scale": 0.4}),
]
GRADS = {"query": "gradQuery", "key": "gradKey", "value": "gradValue", "bias": "gradBias", "sinks": "gradSinks"}


def run_formula(case, seed):
    arrays = formula.draw(case, seed)
    double = formula.doubles(arrays)
    leaves = {k: v.requires_grad_() for k, v in double.items() if k in GRADS}
    output, lse, without = formula.attention(case, **double)
    grad_output = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).double()
    rows = formula.empty_rows(case, arrays.get("mask"))
    tensors = arrays | {k: v.detach().numpy() for k, v in
                        dict(output=output, logSumExp=lse, logSumExpWithoutSinks=without, gradOutput=grad_output).items()}
    grads = torch.autograd.grad(output, list(leaves.values()), grad_output)
    assert all(torch.isfinite(g).all() for g in grads), case["name"]
    tensors |= {GRADS[k]: g.numpy() for k, g in zip(leaves, grads)}
    return {f"{case['name']}/{k}": v for k, v in tensors.items()}, formula.describe(case, "BTNH", rows)


def run_dropout(name, broadcast, rate, dims, seed):
    B, T, S, N, K, H = (dims[d] for d in "BTSNKH")
    arrays = formula.draw(dims, seed)
    key = jax.random.PRNGKey(seed)
    output = nnx.dot_product_attention(
        arrays["query"], arrays["key"], arrays["value"], broadcast_dropout=broadcast, dropout_rng=key, dropout_rate=rate,
        deterministic=False)
    keep = 1 - rate
    mask = jax.random.bernoulli(key, keep, (1, 1, T, S) if broadcast else (B, N, T, S))
    repeated = {k: np.repeat(arrays[k], N // K, 2) for k in ("key", "value")}
    weights = jax.nn.softmax(jnp.einsum("btnh,bsnh->bnts", arrays["query"], repeated["key"]) / H**0.5)
    ours = jnp.einsum("bnts,bsnh->btnh", weights * mask / keep, repeated["value"])
    assert np.abs(ours - output).max() < 2e-6, (name, np.abs(ours - output).max())
    tensors = arrays | {"dropoutKey": key, "keep": mask, "output": output}
    described = formula.describe(dims | {"name": name}, "BTNH", []) | {"options": {"dropoutRate": rate, "broadcastDropout": broadcast}}
    return {f"{name}/{k}": np.asarray(v) for k, v in tensors.items()}, described


def main(out):
    torch.set_num_threads(1)
    arrays, cases = {}, []
    for index, case in enumerate(CASES):
        tensors, described = run_formula(case, 300 + index)
        arrays |= tensors
        cases.append(described)
    write_arrays(out / "formula.safetensors", arrays)
    write_json(out / "formula.json", {
        "script": "tools/golden/attention_extras.py", "versions": versions("torch"), "seed": "300 + index of the case",
        "made by": "the float64 formula in attention_formula.py, not by an outside framework", "emptyRowOutput": "zeros",
        "logSumExp": "natural log of the whole denominator, sinks included; -Infinity where it is empty", "cases": cases,
    })

    dims = dict(B=2, T=7, S=11, N=6, K=2, H=5)
    arrays, cases = {}, []
    for index, (name, broadcast, rate) in enumerate([("broadcast", True, 0.3), ("per-head", False, 0.3), ("per-head-half", False, 0.5)]):
        tensors, described = run_dropout(name, broadcast, rate, dims, 400 + index)
        arrays |= tensors
        cases.append(described)
    write_arrays(out / "flax-dropout.safetensors", arrays)
    write_json(out / "flax-dropout.json", {
        "script": "tools/golden/attention_extras.py", "versions": versions("jax", "flax"),
        "threefryPartitionable": bool(jax.config.jax_threefry_partitionable), "cases": cases,
    })
    print(len(CASES), "formula cases,", len(cases), "dropout cases")


main(Path(sys.argv[1]))
