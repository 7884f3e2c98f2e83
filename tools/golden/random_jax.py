"""Makes test/golden/random/random.{safetensors,json}: keys and samples of jax.random (threefry2x32,
partitionable; CPU, float32).

Short arrays are stored whole, long ones as the SHA-256 of their little-endian bytes: what JAX computes by
polynomials is meant to be equal bit for bit on the kind of CPU this ran on (fused multiply-add).

Usage: python random_jax.py OUT        # OUT is test/golden/random
"""

import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from golden_io import versions, write_arrays, write_json

SEEDS = [0, 42, 1234567891, 2**31 - 1]
KEY_SEEDS = [*SEEDS, -1, 2**31, 2**32 - 1, 2**32 + 5, 2**40 + 7]
TRUNCATED = [(-2.0, 2.0), (-1.0, 0.5), (0.3, 4.0), (-3.5, -0.25), (-float("inf"), 1.0)]
RANGES = [(0, 10), (-7, 13), (0, 2**31 - 1), (-(2**31), 2**31 - 1), (5, 5), (9, 2)]


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def keys():
    rows = []
    for seed in KEY_SEEDS:
        key = jax.random.PRNGKey(seed)
        data = lambda k: np.asarray(k).tolist()
        rows.append({
            "seed": seed, "key": data(key), "newKey": data(jax.random.key_data(jax.random.key(seed))),
            "split2": data(jax.random.split(key)), "split5": data(jax.random.split(key, 5)),
            "foldIn": {str(n): data(jax.random.fold_in(key, np.uint32(n))) for n in (0, 1, 7, 2**31, 2**32 - 1)},
        })
    return rows


def samples(seed):
    key = jax.random.key(seed)
    logits = np.random.RandomState(seed % 1000).normal(size=(5, 7)).astype(np.float32) * 3
    out = {
        "bits": jax.random.bits(key, (3, 5, 7)),
        "uniform": jax.random.uniform(key, (3, 31)),
        "uniformRange": jax.random.uniform(key, (3, 31), minval=-2.5, maxval=3.7),
        "normal": jax.random.normal(key, (3, 5, 17)),
        "gumbel": jax.random.gumbel(key, (3, 31)),
        "bernoulli": jax.random.bernoulli(key, 0.3, (3, 31)),
        "bernoulliHalf": jax.random.bernoulli(key, shape=(3, 31)),
        "logits": logits,
        "categorical": jax.random.categorical(key, logits),
        "categoricalShape": jax.random.categorical(key, logits, shape=(11, 5)),
        "categoricalAxis0": jax.random.categorical(key, logits, axis=0),
        "permutation13": jax.random.permutation(key, 13),
        "scalar": jax.random.normal(key),
    }
    for i, (low, high) in enumerate(TRUNCATED):
        out[f"truncatedNormal{i}"] = jax.random.truncated_normal(key, low, high, (3, 31))
    for i, (low, high) in enumerate(RANGES):
        out[f"randint{i}"] = jax.random.randint(key, (3, 31), low, high)
    if seed == 42:
        out["permutation2003"] = jax.random.permutation(key, 2003)  # two rounds of sorting
    return {f"{seed}/{name}": np.asarray(value) for name, value in out.items()}


def digests(seed):
    key, size = jax.random.key(seed), 2**17 + 3
    return {
        "bits": digest(jax.random.bits(key, (size,))),
        "uniform": digest(jax.random.uniform(key, (size,))),
        "uniformRange": digest(jax.random.uniform(key, (size,), minval=-2.5, maxval=3.7)),
        "normal": digest(jax.random.normal(key, (size,))),
        "truncatedNormal": digest(jax.random.truncated_normal(key, -2, 2, (size,))),
        "gumbel": digest(jax.random.gumbel(key, (size,))),
        "bernoulli": digest(np.asarray(jax.random.bernoulli(key, 0.9, (size,))).astype(np.uint8)),
    }


def main(out):
    arrays = {}
    for seed in SEEDS:
        arrays |= samples(seed)
    finite = [[float(x) if np.isfinite(x) else None for x in pair] for pair in TRUNCATED]
    write_arrays(out / "random.safetensors", arrays)
    write_json(out / "random.json", {
        "script": "tools/golden/random_jax.py", "versions": versions("jax", "jaxlib"), "seeds": SEEDS, "keys": keys(),
        "truncated": finite, "ranges": RANGES, "digestSize": 2**17 + 3, "digests": {str(seed): digests(seed) for seed in SEEDS},
    })
    print(len(arrays), "arrays,", len(KEY_SEEDS), "key seeds")


main(Path(sys.argv[1]))
