"""Grouped-query attention as one float64 formula in PyTorch: the check of every golden attention output.

Order: scores times scale, soft cap, plus bias, mask, softmax with the sinks joined to the denominator,
weights times V. Layout is [B, T, N, H]. A query that may attend to nothing gives zeros. Also draws the random
inputs of a case.
"""

import math

import numpy as np
import torch

DEFAULTS = dict(scale=None, isCausal=False, causalAlignment="topLeft", localWindowSize=None, querySeqLengths=None,
                keyValueSeqLengths=None, logitsSoftCap=None)


def draw(case, seed):
    """case: B, T, S, N, K, H, Hv?, bias? and mask? (their shapes), sinks?, amplitude?. Returns name ->
    float32 or bool array."""
    rng = np.random.default_rng(seed)
    B, T, S, N, K, H = (case[d] for d in "BTSNKH")
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    arrays = {"query": normal(B, T, N, H) * case.get("amplitude", 1), "key": normal(B, S, K, H), "value": normal(B, S, K, case.get("Hv", H))}
    if "bias" in case:
        arrays["bias"] = normal(*case["bias"]) * 2
    if "mask" in case:
        arrays["mask"] = rng.random(case["mask"]) < 0.6
        for b, t in case.get("emptyAt", []):
            arrays["mask"][b, :, t] = False
    if case.get("sinks"):
        arrays["sinks"] = normal(N) * 2
    return arrays


def allowed_keys(case, mask):
    """[B, N, T, S] booleans: which key each query may attend to."""
    options = {**DEFAULTS, **case.get("options", {})}
    B, T, S, N = (case[d] for d in "BTSN")
    i, j = torch.arange(T)[None, :, None], torch.arange(S)[None, None, :]
    q_length = torch.tensor(options["querySeqLengths"] or [T] * B)[:, None, None]
    k_length = torch.tensor(options["keyValueSeqLengths"] or [S] * B)[:, None, None]
    aligned = i + (k_length - q_length if options["causalAlignment"] == "bottomRight" else 0)  # the key position of query i
    allowed = (i < q_length) & (j < k_length)
    if options["isCausal"]:
        allowed = allowed & (j <= aligned)
    window = options["localWindowSize"]
    if window is not None:
        left, right = (window, window) if isinstance(window, int) else window
        allowed = allowed & (j >= aligned - left) & (j <= aligned + right)
    allowed = allowed[:, None].expand(B, N, T, S)
    return allowed if mask is None else allowed & mask


def attention(case, query, key, value, bias=None, mask=None, sinks=None):
    """float64 tensors -> output [B, T, N, Hv], log-sum-exp [B, T, N] with the sinks and without them."""
    options = {**DEFAULTS, **case.get("options", {})}
    group = case["N"] // case["K"]
    key, value = key.repeat_interleave(group, 2), value.repeat_interleave(group, 2)
    scale = options["scale"] or 1 / math.sqrt(case["H"])
    scores = torch.einsum("btnh,bsnh->bnts", query, key) * scale
    if options["logitsSoftCap"]:
        scores = options["logitsSoftCap"] * torch.tanh(scores / options["logitsSoftCap"])
    if bias is not None:
        scores = scores + bias
    allowed = allowed_keys(case, mask)
    empty = ~allowed.any(-1, keepdim=True)
    scores = scores.masked_fill(~(allowed | empty), -torch.inf)  # an empty row keeps finite scores here, so that its gradient is 0, not NaN
    without = scores.logsumexp(-1, keepdim=True)
    total = without if sinks is None else torch.logaddexp(without, sinks[None, :, None, None])
    weights = torch.exp(scores - total) * allowed
    nothing = torch.tensor(-torch.inf, dtype=torch.float64)
    total = total.where(~empty, nothing if sinks is None else sinks.double()[None, :, None, None])[..., 0]
    without = without.where(~empty, nothing)[..., 0]
    output = torch.einsum("bnts,bsnh->btnh", weights, value)
    return output, total.transpose(1, 2), without.transpose(1, 2)


def empty_rows(case, mask):
    """[b, n, t] of every query that may attend to nothing."""
    mask = None if mask is None else torch.from_numpy(mask)
    return (~allowed_keys(case, mask).any(-1)).nonzero().tolist()


def doubles(arrays):
    return {k: torch.from_numpy(v) if v.dtype == bool else torch.from_numpy(v).double() for k, v in arrays.items()}


def describe(case, layout, rows):
    """The case as it goes into the JSON file; `options` are the library's own names."""
    dims = {d: case[d] for d in "BTSNKH"} | {"Hv": case.get("Hv", case["H"])}
    out = {"name": case["name"], "layout": layout, **dims, "options": case.get("options", {})}
    return out | ({"emptyRows": rows} if rows else {})
