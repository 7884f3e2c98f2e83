"""Makes test/golden/semantics/frameworks.{safetensors,json}: the points on which frameworks differ, on one
small input, as jax.nn, Flax, PyTorch and Hugging Face transformers compute them (CPU).
test/nn/semantics.test.ts holds docs/semantics.md by them.

Layout [B, T, N, H] everywhere in the files. Usage: python semantics.py OUT        # OUT is test/golden/semantics
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch.nn import functional as F
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss

from golden_io import versions, write_arrays, write_json

torch.set_num_threads(1)
B, N, K, H = 1, 4, 2, 5
rng = np.random.RandomState(0)
draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
Q, KEY, VALUE = draw(B, 3, N, H), draw(B, 5, K, H), draw(B, 5, K, H)
LONG = draw(B, 5, N, H)
BIAS, SINKS = draw(B, N, 3, 5), draw(N)
MASK = rng.randint(0, 2, (B, 1, 3, 5)) > 0
MASK[..., 0] = True
EMPTY = MASK.copy()
EMPTY[0, 0, 1] = False
KEY_SHORT, VALUE_SHORT = KEY[:, :3], VALUE[:, :3]


def sdpa(q, k, v, mask=None, **options):
    tensors = [torch.tensor(x).transpose(1, 2) for x in (q, k, v)]
    mask = None if mask is None else torch.tensor(np.asarray(mask))
    return F.scaled_dot_product_attention(*tensors, attn_mask=mask, enable_gqa=True, **options).transpose(1, 2).numpy()


def flax(q, k, v, slow=False, **options):
    """The slow path is the one with dropout or sown weights."""
    return nnx.dot_product_attention(q, k, v, module=nnx.Linear(1, 1, rngs=nnx.Rngs(0)) if slow else None, deterministic=True, **options)


def eager(function, q, k, v, mask, **options):
    module = SimpleNamespace(num_key_value_groups=N // K, training=False, **options.pop("module", {}))
    additive = None if mask is None else torch.where(torch.tensor(mask), 0.0, torch.finfo(torch.float32).min).expand(B, 1, 3, 5)
    q, k, v = (torch.tensor(x).transpose(1, 2) for x in (q, k, v))
    return function(module, q, k, v, additive, scaling=H**-0.5, **options)[0].numpy()


def nan_values():
    key, value = KEY.copy(), VALUE.copy()
    key[0, 4], value[0, 4] = np.nan, np.nan
    mask = np.ones((B, 1, 3, 5), bool)
    mask[..., 4] = False
    return key, value, mask


def main(out):
    jnn = jax.nn.dot_product_attention
    nan_key, nan_value, nan_mask = nan_values()
    x = draw(3, 7) * 1e-3
    bf16 = [jnp.asarray(a, jnp.bfloat16) for a in (Q, KEY, VALUE)]
    key = jax.random.key(7)
    arrays = {
        "q": Q, "long": LONG, "key": KEY, "value": VALUE, "bias": BIAS, "mask": MASK, "emptyMask": EMPTY, "sinks": SINKS, "nanMask": nan_mask, "x": x,
        "heads/jax": jnn(Q, KEY, VALUE), "heads/flax": flax(Q, KEY, VALUE), "heads/flaxSlow": flax(Q, KEY, VALUE, slow=True), "heads/torch": sdpa(Q, KEY, VALUE),
        "causalShort/jax": jnn(Q, KEY, VALUE, is_causal=True), "causalShort/flax": flax(Q, KEY, VALUE, is_causal=True),
        "causalShort/flaxSlow": flax(Q, KEY, VALUE, slow=True, is_causal=True), "causalShort/torch": sdpa(Q, KEY, VALUE, is_causal=True),
        "causalLong/jax": jnn(LONG, KEY_SHORT, VALUE_SHORT, is_causal=True), "causalLong/flax": flax(LONG, KEY_SHORT, VALUE_SHORT, is_causal=True),
        "causalLong/torch": sdpa(LONG, KEY_SHORT, VALUE_SHORT, is_causal=True),
        "emptyRow/jax": jnn(Q, KEY, VALUE, mask=EMPTY), "emptyRow/flax": flax(Q, KEY, VALUE, mask=EMPTY), "emptyRow/torch": sdpa(Q, KEY, VALUE, EMPTY),
        "biasMask/jax": jnn(Q, KEY, VALUE, BIAS, MASK, scale=0.3), "biasMask/torch": sdpa(Q, KEY, VALUE, np.where(MASK, BIAS, -np.inf).astype(np.float32), scale=0.3),
        "biasMask/flax": flax(Q, KEY, VALUE, slow=True, bias=BIAS, mask=MASK),
        "softCap/gemma2": eager(gemma2, Q, KEY, VALUE, MASK, softcap=0.7, dropout=0.0), "sinks/gptOss": eager(gpt_oss, Q, KEY, VALUE, MASK, module={"sinks": torch.tensor(SINKS)}),
        "window/jaxOne": jnn(LONG, KEY, VALUE, local_window_size=1), "window/jaxPair": jnn(LONG, KEY, VALUE, local_window_size=(2, 0)),
        "lengths/jaxKeys": jnn(Q, KEY, VALUE, key_value_seq_lengths=np.array([2], np.int32)), "lengths/jaxQueries": jnn(Q, KEY, VALUE, query_seq_lengths=np.array([2], np.int32)),
        "dropout/flaxBroadcast": nnx.dot_product_attention(Q, KEY, VALUE, dropout_rng=key, dropout_rate=0.5, broadcast_dropout=True),
        "dropout/flaxEach": nnx.dot_product_attention(Q, KEY, VALUE, dropout_rng=key, dropout_rate=0.5, broadcast_dropout=False),
        "nan/jax": jnn(Q, nan_key, nan_value, mask=nan_mask), "nan/torch": sdpa(Q, nan_key, nan_value, nan_mask),
        "bf16/jax": jnn(*bf16).astype(jnp.float32), "bf16/flaxSlow": flax(*bf16, slow=True).astype(jnp.float32),
        "bf16/torch": F.scaled_dot_product_attention(*(torch.tensor(a).bfloat16().transpose(1, 2) for a in (Q, KEY, VALUE)), enable_gqa=True).transpose(1, 2).float().numpy(),
        "layerNorm/flax": nnx.LayerNorm(7, rngs=nnx.Rngs(0))(x), "layerNorm/torch": torch.nn.LayerNorm(7)(torch.tensor(x)).detach().numpy(),
        "rmsNorm/flax": nnx.RMSNorm(7, rngs=nnx.Rngs(0))(x), "rmsNorm/torch": torch.nn.RMSNorm(7)(torch.tensor(x)).detach().numpy(),
    }
    write_arrays(out / "frameworks.safetensors", arrays)
    write_json(out / "frameworks.json", {
        "script": "tools/golden/semantics.py", "versions": versions("jax", "jaxlib", "flax", "torch", "transformers"), "dropoutKey": np.asarray(jax.random.key_data(key)).tolist(),
    })
    for name, array in arrays.items():
        print(name, np.asarray(array).shape, "NaN" if np.isnan(np.asarray(array, np.float32)).any() else "")


main(Path(sys.argv[1]))
