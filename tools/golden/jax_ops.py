"""Makes test/golden/ops/jax-ops.json: where, argmax, top_k, slice with strides, sin, cos and promotion of JAX,
with gradients of the sum of squares of the result where JAX has them. CPU, f32.

Usage: python jax_ops.py OUT        # OUT is test/golden/ops
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

NAN, INF = float("nan"), float("inf")


def text(x):
    """Nested lists; NaN and infinities as strings."""
    flat = [v if np.isfinite(v) else str(v) for v in np.asarray(x, np.float64).ravel().tolist()]
    return {"dtype": str(x.dtype), "shape": list(x.shape), "values": flat}


def row(name, f, inputs, differentiate=()):
    out = f(*inputs)
    outs = out if isinstance(out, (tuple, list)) else [out]
    grads = {}
    if differentiate:
        loss = lambda *a: sum(jnp.sum(o.astype(jnp.float32) ** 2) for o in jax.tree.leaves(f(*a))[:1])
        for i, g in zip(differentiate, jax.grad(loss, argnums=differentiate)(*inputs)):
            grads[str(i)] = text(g)
    return {"name": name, "inputs": [text(x) for x in inputs], "outputs": [text(o) for o in outs], "gradients": grads}


def rows():
    key = jax.random.key(7)
    x = jax.random.normal(key, (3, 5))
    y = jax.random.normal(jax.random.key(8), (5,))
    bad = jnp.array([[1.0, NAN, INF, NAN, 2.0], [3.0, 3.0, -INF, 1.0, 3.0], [0.0, 1.0, 0.0, -1.0, 1.0]])
    angles = jnp.array([0.0, -0.0, 1e-30, 0.5, -1.5, 3.1415927, 100.0, -1e5, 3e6, 1e10, -3e20, 3e38, INF, NAN])
    condition = jnp.array([[True], [False], [True]])
    yield row("where", lambda c, a, b: jnp.where(c, a, b), [condition, x, y], (1, 2))
    yield row("where of NaN", lambda c, a, b: jnp.where(c, a, b), [condition, x, bad], (1,))
    yield row("where of a number", lambda c, a: jnp.where(c, a, -1.5), [x > 0, x], (1,))
    yield row("where of bfloat16 and float16", lambda c, a, b: jnp.where(c, a, b), [condition, x.astype(jnp.bfloat16), y.astype(jnp.float16)])
    yield row("topK 2", lambda a: jax.lax.top_k(a, 2), [x], (0,))
    yield row("topK 5", lambda a: jax.lax.top_k(a, 5), [bad])
    for axis in (None, 0, 1, -1):
        yield row(f"argmax {axis}", lambda a: jnp.argmax(a, axis=axis), [bad])
        yield row(f"argmax keepdims {axis}", lambda a: jnp.argmax(a, axis=axis, keepdims=True), [x])
    cube = jax.random.normal(key, (4, 7, 5))
    yield row("slice", lambda a: jax.lax.slice(a, (0, 1, 0), (4, 7, 5), (3, 2, 4)), [cube], (0,))
    yield row("slice one", lambda a: jax.lax.slice(a, (1, 2, 0), (3, 3, 5), (7, 9, 1)), [cube], (0,))
    yield row("sin", jnp.sin, [angles])
    yield row("cos", jnp.cos, [angles])
    yield row("sin gradient", jnp.sin, [x], (0,))
    yield row("cos gradient", jnp.cos, [x], (0,))
    dtypes = [jnp.float32, jnp.float16, jnp.bfloat16]
    for a in dtypes:
        yield row(f"exp {jnp.dtype(a)}", jnp.exp, [x.astype(a)])
        yield row(f"mul number {jnp.dtype(a)}", lambda p: p * 1.1, [x.astype(a)])
        for b in dtypes:
            yield row(f"add {jnp.dtype(a)} {jnp.dtype(b)}", jnp.add, [x.astype(a), y.astype(b)], (0, 1))


out = {"versions": {"jax": jax.__version__, "numpy": np.__version__}, "cases": list(rows())}
Path(sys.argv[1], "jax-ops.json").write_text(json.dumps(out) + "\n")
