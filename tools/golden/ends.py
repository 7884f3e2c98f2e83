"""Makes test/golden/ops/ends.{safetensors,json}: ops at the ends of f32 and at their special points.

Functions and their slopes are PyTorch's in f64; attention beside large biases and its gradients are JAX's in
f64; gradients at special points are PyTorch's and JAX's in f32; categorical with NaN is JAX's. CPU.

Usage: python ends.py OUT        # OUT is test/golden/ops
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from golden_io import versions, write_arrays, write_json

torch.set_num_threads(1)
jax.config.update("jax_enable_x64", True)
LOWEST = float(np.finfo(np.float32).min)
LARGEST = -LOWEST
INF = float("inf")
FUNCTIONS = {
    "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu, "relu": torch.relu, "abs": torch.abs,
    "geluTanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}


def grid():
    ends = [0, 1e-45, 1e-40, 2**-126, 1e-30, 1e-10, 1e-4, 1, 1e4, 1e10, 1e19, 2e19, 1e30, LARGEST]
    near = [*np.linspace(0.01, 12, 200), *np.linspace(12, 110, 600), 88.3, 88.5, 88.72, 88.7228, 88.73, 103.9, 103.97, 104, 150]
    values = np.array([*ends, *near], np.float32)
    return np.concatenate([values, -values])


def functions():
    x = grid()
    arrays = {"x": x}
    for name, f in FUNCTIONS.items():
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        y = f(leaf)
        y.backward(torch.ones_like(y))
        with np.errstate(over="ignore"):
            arrays[name] = y.detach().numpy().astype(np.float32)
            arrays[f"{name}/slope"] = leaf.grad.numpy().astype(np.float32)
    arrays["exp/jax"] = np.asarray(jnp.exp(jnp.asarray(x)))
    return arrays


def attention(q, k, v, bias, sinks):
    groups = q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, groups, axis=2) for x in (k, v))
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(q.shape[-1]) + bias
    if sinks is not None:
        scores = jnp.concatenate([scores, jnp.broadcast_to(sinks[None, :, None, None], (*scores.shape[:3], 1))], -1)
    weights = jax.nn.softmax(scores, axis=-1)[..., : k.shape[1]]
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


def biased():
    rng = np.random.RandomState(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    S, N, K, H = 40, 4, 2, 8
    rows = []
    arrays = {}
    some = np.where(rng.rand(S) < 0.5, -INF, -1e9)
    one = np.full(S, -1e9)
    one[3] = 0
    kinds = {
        "-1e6": np.full(S, -1e6), "-1e9": np.full(S, -1e9), "1e9": np.full(S, 1e9), "lowest": np.full(S, LOWEST), "largest": np.full(S, LARGEST),
        "-1e9 or masked": some, "-1e9 but one": one, "-1e9 and drawn": -1e9 + 64.0 * rng.randint(0, 2, S),
    }
    for T in (1, 17):
        q, k, v, d = draw(1, T, N, H), draw(1, S, K, H), draw(1, S, K, H), draw(1, T, N, H)
        arrays |= {f"T{T}/q": q, f"T{T}/k": k, f"T{T}/v": v, f"T{T}/d": d}
        for kind, line in kinds.items():
            for sinks in (None, np.float32([0.5, -1e9, 1e9, LOWEST])):
                name = f"T{T} {kind}{'' if sinks is None else ' sinks'}"
                bias = line.reshape(1, 1, 1, S).astype(np.float32)
                wide = [jnp.asarray(x, jnp.float64) for x in (q, k, v, bias)]
                join = None if sinks is None else jnp.asarray(sinks, jnp.float64)
                out, back = jax.vjp(lambda *a: attention(*a[:4], join), *wide)
                arrays |= {f"{name}/bias": bias, f"{name}/out": out}
                if sinks is not None:
                    arrays[f"{name}/sinks"] = sinks
                for key, value in zip(("dQ", "dK", "dV", "dBias"), back(jnp.asarray(d, jnp.float64))):
                    arrays[f"{name}/{key}"] = value
                rows.append({"name": name, "inputs": f"T{T}", "sinks": sinks is not None})
    return rows, arrays


def special_points():
    """Gradients of both sides by PyTorch and JAX in f32; null where one is NaN."""
    pairs = {
        "pow": [(0, 0), (0, 1), (0, 2), (0, 0.5), (0, -1), (-1, 0), (-2, 0), (-2, 2), (-2, 3), (-2, -1), (2, 0), (2, 0.5), (INF, 0), (1, 5)],
        "div": [(1, 2), (0, 2), (1, 0), (0, 0), (3, -0.5)],
        "maximum": [(1, 1), (0, -0.0), (2, 1), (INF, INF), (-INF, 0)],
        "minimum": [(1, 1), (0, -0.0), (2, 1), (INF, INF), (-INF, 0)],
    }
    torch_ops = {"pow": torch.pow, "div": torch.div, "maximum": torch.maximum, "minimum": torch.minimum}
    jax_ops = {"pow": jnp.power, "div": jnp.divide, "maximum": jnp.maximum, "minimum": jnp.minimum}
    plain = lambda x: str(float(x)).replace("inf", "Infinity").replace("nan", "NaN")
    rows = []
    for op, points in pairs.items():
        for a, b in points:
            x, y = (torch.tensor(float(z), requires_grad=True) for z in (a, b))
            torch_ops[op](x, y).backward()
            with jax.numpy_dtype_promotion("standard"):
                ours = jax.grad(jax_ops[op], (0, 1))(jnp.float32(a), jnp.float32(b))
            rows.append({"op": op, "a": plain(a), "b": plain(b), "torch": [plain(x.grad), plain(y.grad)], "jax": [plain(g) for g in ours]})
    for op, f, g in (("sqrt", torch.sqrt, jnp.sqrt), ("abs", torch.abs, jnp.abs), ("log", torch.log, jnp.log), ("relu", torch.relu, jax.nn.relu)):
        for a in (0.0, -0.0, 1.0):
            x = torch.tensor(a, requires_grad=True)
            f(x).backward()
            rows.append({"op": op, "a": plain(a), "torch": [plain(x.grad)], "jax": [plain(jax.grad(g)(jnp.float32(a)))]})
    return rows


def categorical():
    nan = float("nan")
    logits = np.float32([[0, 1, nan, 2], [nan, nan, 0, 0], [-INF, nan, INF, 0], [0, 1, 2, 3], [-INF, -INF, -INF, -INF], [INF, 0, INF, nan]])
    return {"logits": logits, **{f"categorical{seed}": np.asarray(jax.random.categorical(jax.random.key(seed), jnp.asarray(logits))) for seed in range(4)}}


def main(out):
    rows, arrays = biased()
    arrays |= functions() | categorical()
    write_arrays(out / "ends.safetensors", arrays)
    write_json(out / "ends.json", {"script": "tools/golden/ends.py", "versions": versions("torch", "jax", "jaxlib"), "cases": rows, "points": special_points(), "functions": list(FUNCTIONS)})
    print(len(arrays), "arrays")


main(Path(sys.argv[1]))
