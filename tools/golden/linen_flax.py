"""Makes test/golden/flax/linen.{safetensors,json}: the Linen module of grouped queries (DenseGeneral q, k, v,
out) and the NNX module of multi-query attention, written here as a user of Flax writes them, with their
parameters and outputs.

Usage: python linen_flax.py OUT        # OUT is test/golden/flax
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.core import scope

from golden_io import versions, write_arrays, write_json

SEEDS = [0, 42, 1234567891, 2**31 - 1]


class Gqa(nn.Module):
    num_heads: int
    num_kv_heads: int
    qkv_features: int

    @nn.compact
    def __call__(self, x):
        d = self.qkv_features // self.num_heads
        q = nn.DenseGeneral(features=(self.num_heads, d), name="q")(x)
        k = nn.DenseGeneral(features=(self.num_kv_heads, d), name="k")(x)
        v = nn.DenseGeneral(features=(self.num_kv_heads, d), name="v")(x)
        k, v = (jnp.repeat(y, self.num_heads // self.num_kv_heads, axis=-2) for y in (k, v))
        weights = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k) / jnp.sqrt(d), axis=-1)
        out = jnp.einsum("hts,shd->thd", weights, v)
        return nn.DenseGeneral(features=x.shape[-1], axis=(-2, -1), name="out")(out)


class Mqa(nnx.Module):
    def __init__(self, d_model, num_heads, rngs):
        self.num_heads, self.head_dim = num_heads, d_model // num_heads
        self.q_proj = nnx.Linear(d_model, d_model, rngs=rngs)
        self.k_proj = nnx.Linear(d_model, self.head_dim, rngs=rngs)
        self.v_proj = nnx.Linear(d_model, self.head_dim, rngs=rngs)
        self.out_proj = nnx.Linear(d_model, d_model, rngs=rngs)

    def __call__(self, x):
        T = x.shape[0]
        q = self.q_proj(x).reshape(T, self.num_heads, self.head_dim).transpose(1, 0, 2)
        k, v = self.k_proj(x), self.v_proj(x)
        weights = jax.nn.softmax(jnp.einsum("htd,sd->hts", q, k) / jnp.sqrt(self.head_dim), axis=-1)
        return self.out_proj(jnp.einsum("hts,sd->htd", weights, v).transpose(1, 0, 2).reshape(T, -1))


def main(out):
    arrays, gqa, mqa, fold = {}, [], [], []
    for i, (T, D, N, K, F) in enumerate(((5, 7, 4, 2, 12), (3, 11, 6, 3, 30), (1, 5, 4, 1, 8), (13, 8, 4, 4, 16), (7, 16, 4, 2, 16))):
        for seed in SEEDS:
            x = np.random.RandomState(i).normal(size=(T, D)).astype(np.float32)
            module, name = Gqa(N, K, F), f"gqa-{i}-{seed}"
            variables = module.init(jax.random.PRNGKey(seed), x)
            arrays |= {f"{name}/x": x, f"{name}/output": module.apply(variables, x).reshape(-1)}
            for layer, leaves in variables["params"].items():
                for leaf, value in leaves.items():
                    if leaf == "kernel" or seed == 0:
                        arrays[f"{name}/params/{layer}/{leaf}"] = value
            gqa.append({"name": name, "seed": seed, "numHeads": N, "numKvHeads": K, "qkvFeatures": F})
    for i, (T, D, N) in enumerate(((5, 12, 4), (3, 15, 5), (7, 16, 2), (1, 6, 6))):
        for seed in SEEDS:
            x = np.random.RandomState(i).normal(size=(T, D)).astype(np.float32)
            name = f"mqa-{i}-{seed}"
            arrays |= {f"{name}/x": x, f"{name}/output": Mqa(D, N, nnx.Rngs(seed))(x).reshape(-1)}
            mqa.append({"name": name, "seed": seed, "numHeads": N, "dModel": D})
    for data in (("q", 1), ("out", 2), ("layers_0", "attention", "q", 300), ("é", 1), ()):
        key = scope._fold_in_static(jax.random.PRNGKey(5), data)
        fold.append({"path": list(data), "key": np.asarray(key).tolist()})
    write_arrays(out / "linen.safetensors", arrays)
    write_json(out / "linen.json", {"script": "tools/golden/linen_flax.py", "versions": versions("jax", "jaxlib", "flax"), "mhaGqa": gqa, "mhaMqa": mqa, "foldInStatic": fold, "foldSeed": 5})
    print(len(gqa) + len(mqa), "cases")


main(Path(sys.argv[1]))
