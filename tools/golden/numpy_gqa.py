"""Makes test/golden/flax/numpy.{safetensors,json}: grouped-query attention in NumPy (groupedQueryAttention)
and the decoder block of PyTorch (Linear without bias, repeat_interleave, causal scaled_dot_product_attention)
with its weights.

Usage: python numpy_gqa.py OUT        # OUT is test/golden/flax
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from golden_io import versions, write_arrays, write_json

torch.set_num_threads(1)


def grouped_query_attention(Q, K, V, num_groups):
    batch, heads, seq, d_k = Q.shape
    Q = Q.reshape(batch, num_groups, heads // num_groups, seq, d_k)
    K, V = K[:, :, None], V[:, :, None]
    scores = np.matmul(Q, K.transpose(0, 1, 2, 4, 3)) / np.sqrt(d_k)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.matmul(weights / weights.sum(-1, keepdims=True), V).reshape(batch, heads, seq, V.shape[-1])


class GQAttention(nn.Module):
    def __init__(self, dim, n_head, n_kv_head):
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = n_head, n_kv_head, dim // n_head
        self.q_proj = nn.Linear(dim, n_head * self.head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_head * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_head * self.head_dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (p(x).view(B, T, -1, self.head_dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (y.repeat_interleave(self.n_head // self.n_kv_head, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


def main(out):
    arrays, formula, blocks = {}, [], []
    for i, (B, N, G, T, H) in enumerate(((2, 6, 3, 5, 7), (1, 4, 1, 7, 3), (3, 5, 5, 2, 11), (2, 8, 2, 13, 5), (1, 6, 2, 1, 1))):
        rng, name = np.random.RandomState(i), f"numpy-{i}"
        Q, K, V = (rng.normal(size=(B, heads, T, H)).astype(np.float32) for heads in (N, G, G))
        arrays |= {f"{name}/Q": Q, f"{name}/K": K, f"{name}/V": V, f"{name}/output": grouped_query_attention(*(a.astype(np.float64) for a in (Q, K, V)), G)}
        formula.append({"name": name, "numGroups": G})
    for i, (dim, N, K, B, T) in enumerate(((30, 6, 2, 2, 7), (35, 7, 1, 1, 11), (12, 4, 4, 3, 5), (24, 6, 3, 2, 1))):
        torch.manual_seed(i)
        module, name = GQAttention(dim, N, K), f"block-{i}"
        x = torch.randn(B, T, dim)
        arrays |= {f"{name}/x": x.numpy(), f"{name}/output": module(x).detach().numpy()}
        arrays |= {f"{name}/params/{k}": v.numpy() for k, v in module.state_dict().items()}
        blocks.append({"name": name, "dim": dim, "numHeads": N, "numKeyValueHeads": K})
    write_arrays(out / "numpy.safetensors", arrays)
    write_json(out / "numpy.json", {"script": "tools/golden/numpy_gqa.py", "versions": versions("torch"), "groupedQueryAttention": formula, "blocks": blocks})
    print(len(formula) + len(blocks), "cases")


main(Path(sys.argv[1]))
