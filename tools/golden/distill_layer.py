"""Makes test/golden/distill/layer.json: the error of one attention layer against a target, and its gradient by
q, k, v and o, in NumPy float64.

The layer has N = 6 query heads on K = 2 key/value heads, RoPE on the pairs (i, i + H/2), and a causal softmax; the
error is the sum of (w * (output - target))^2. The gradient is written out by hand and checked here by central
differences.

Usage: python distill_layer.py OUT   # OUT is test/golden/distill
"""

import json
import sys
from pathlib import Path

import numpy as np

B, T, N, K, H, D = 2, 5, 6, 2, 4, 7
THETA = 10000.0
rng = np.random.default_rng(3)


def rotate(x, back=False):
    half = H // 2
    angles = np.arange(T)[:, None] * THETA ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[None, :, None], np.sin(angles)[None, :, None] * (-1 if back else 1)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def forward(w, x):
    q = rotate((x @ w["q"].T).reshape(B, T, N, H))
    k = rotate((x @ w["k"].T).reshape(B, T, K, H))
    v = (x @ w["v"].T).reshape(B, T, K, H)
    kn, vn = np.repeat(k, N // K, 2), np.repeat(v, N // K, 2)
    scores = np.einsum("btnh,bsnh->bnts", q, kn) / np.sqrt(H)
    scores = np.where(np.tril(np.ones((T, T), bool)), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    a = np.einsum("bnts,bsnh->btnh", p, vn).reshape(B, T, N * H)
    return q, kn, vn, p, a, a @ w["o"].T


def error(w, x, target, weight):
    return float((((forward(w, x)[-1] - target) * weight) ** 2).sum())


def gradient(w, x, target, weight):
    q, kn, vn, p, a, out = forward(w, x)
    d_out = 2 * (out - target) * weight**2
    d_a = (d_out @ w["o"]).reshape(B, T, N, H)
    d_p = np.einsum("btnh,bsnh->bnts", d_a, vn)
    d_scores = p * (d_p - (d_p * p).sum(-1, keepdims=True)) / np.sqrt(H)
    grouped = lambda g: g.reshape(B, T, K, N // K, H).sum(3)
    d_q = rotate(np.einsum("bnts,bsnh->btnh", d_scores, kn), back=True)
    d_k = rotate(grouped(np.einsum("bnts,btnh->bsnh", d_scores, q)), back=True)
    d_v = grouped(np.einsum("bnts,btnh->bsnh", p, d_a))
    by = lambda d: np.einsum("bto,btd->od", d.reshape(B, T, -1), x)
    return {"q": by(d_q), "k": by(d_k), "v": by(d_v), "o": np.einsum("bto,bti->oi", d_out, a)}


def main(out):
    w = {"q": rng.normal(size=(N * H, D)), "k": rng.normal(size=(K * H, D)), "v": rng.normal(size=(K * H, D)),
         "o": rng.normal(size=(D, N * H))}
    w = {name: np.round(0.5 * value, 3) for name, value in w.items()}
    x, target = np.round(rng.normal(size=(2, B, T, D)), 3)
    weight = np.round(rng.uniform(0.5, 1.5, size=(B, T, 1)), 3)
    g = gradient(w, x, target, weight)
    for name, value in w.items():
        at = tuple(rng.integers(0, n) for n in value.shape)
        sides = []
        for sign in (1, -1):
            moved = {**w, name: value.copy()}
            moved[name][at] += sign * 1e-5
            sides.append(error(moved, x, target, weight))
        assert abs((sides[0] - sides[1]) / 2e-5 - g[name][at]) < 1e-6 * max(1, abs(g[name][at])), name
    flat = lambda arrays: {name: np.round(value, 6).ravel().tolist() for name, value in arrays.items()}
    golden = {"versions": {"numpy": np.__version__}, "sizes": {"B": B, "T": T, "N": N, "K": K, "H": H, "D": D},
              "weights": flat(w), **flat({"x": x, "target": target, "weight": weight}),
              "error": round(error(w, x, target, weight), 6), "gradient": flat(g)}
    Path(out, "layer.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
