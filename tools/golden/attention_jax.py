"""Makes test/golden/attention/jax.{safetensors,json}: jax.nn.dot_product_attention (XLA, CPU, float32).
Layout [B, T, N, H].

Where a query may attend to nothing JAX gives the mean of V; `emptyRows` lists those as [b, n, t], since the
library defines zeros there. Every other row is compared with the float64 formula before it is written.

Usage: python attention_jax.py OUT        # OUT is test/golden/attention
"""

import sys
from pathlib import Path

import jax
import numpy as np

import attention_formula as formula
from golden_io import versions, write_arrays, write_json

CASES = [
    dict(name="mha", B=2, T=5, S=7, N=3, K=3, H=5),
    dict(name="mha-causal", B=2, T=7, S=7, N=5, K=5, H=3, options={"isCausal": True}),
    dict(name="gqa", B=3, T=5, S=11, N=6, K=2, H=13),
    dict(name="gqa-scale", B=2, T=7, S=11, N=15, K=3, H=5, options={"scale": 0.2}),
    dict(name="gqa-causal", B=2, T=13, S=13, N=6, K=3, H=19, options={"isCausal": True}),
    dict(name="gqa-causal-longer-keys", B=2, T=5, S=17, N=6, K=2, H=5, options={"isCausal": True}),
    dict(name="gqa-causal-longer-queries", B=2, T=13, S=7, N=6, K=2, H=3, options={"isCausal": True}),
    dict(name="mqa", B=2, T=7, S=11, N=7, K=1, H=5),
    dict(name="mqa-decode", B=3, T=1, S=17, N=11, K=1, H=13, options={"keyValueSeqLengths": [17, 3, 11]}),
    dict(name="window", B=2, T=13, S=13, N=6, K=2, H=5, options={"localWindowSize": 2}),
    dict(name="window-causal", B=2, T=13, S=13, N=6, K=2, H=5, options={"localWindowSize": 3, "isCausal": True}),
    dict(name="window-pair", B=2, T=13, S=17, N=6, K=2, H=5, options={"localWindowSize": [5, 2]}),
    dict(name="window-pair-causal", B=2, T=13, S=11, N=6, K=3, H=5, options={"localWindowSize": [3, 0], "isCausal": True}),
    dict(name="window-beyond-keys", B=2, T=13, S=7, N=6, K=2, H=5, options={"localWindowSize": [2, 1]}),
    dict(name="window-zero", B=2, T=7, S=7, N=6, K=2, H=5, options={"localWindowSize": 0}),
    dict(name="key-lengths", B=3, T=5, S=11, N=6, K=2, H=5, options={"keyValueSeqLengths": [11, 1, 7]}),
    dict(name="query-lengths", B=3, T=7, S=11, N=6, K=2, H=5, options={"querySeqLengths": [7, 2, 5]}),
    dict(name="both-lengths-causal", B=3, T=13, S=13, N=6, K=2, H=5,
         options={"querySeqLengths": [13, 5, 7], "keyValueSeqLengths": [13, 5, 7], "isCausal": True}),
    dict(name="no-keys-in-a-row", B=3, T=5, S=7, N=6, K=2, H=5, options={"keyValueSeqLengths": [7, 0, 3]}),
    dict(name="bias", B=2, T=5, S=7, N=6, K=2, H=13, bias=(2, 6, 5, 7)),
    dict(name="bias-shared", B=2, T=5, S=7, N=6, K=2, H=13, bias=(1, 1, 5, 7), options={"isCausal": True}),
    dict(name="bias-per-head", B=2, T=7, S=11, N=10, K=5, H=3, bias=(1, 10, 7, 11)),
    dict(name="mask", B=2, T=7, S=11, N=6, K=2, H=5, mask=(2, 6, 7, 11)),
    dict(name="mask-shared-by-heads", B=3, T=7, S=11, N=6, K=2, H=5, mask=(3, 1, 7, 11)),
    dict(name="mask-shared-by-batch", B=3, T=7, S=11, N=6, K=2, H=5, mask=(1, 6, 7, 11)),
    dict(name="mask-shared-by-both", B=3, T=7, S=11, N=6, K=2, H=5, mask=(1, 1, 7, 11)),
    dict(name="mask-empty-rows", B=2, T=7, S=11, N=6, K=2, H=5, mask=(2, 1, 7, 11), emptyAt=[(0, 0), (1, 2), (1, 6)]),
    dict(name="everything", B=3, T=13, S=17, N=10, K=5, H=7, bias=(1, 10, 13, 17), mask=(3, 1, 13, 17),
         options={"isCausal": True, "localWindowSize": [6, 4], "scale": 0.7, "querySeqLengths": [13, 4, 9], "keyValueSeqLengths": [5, 17, 9]}),
]


def run(case, seed):
    arrays = formula.draw(case, seed)
    options = case.get("options", {})
    window = options.get("localWindowSize")
    lengths = {k: None if options.get(o) is None else np.array(options[o], np.int32)
               for k, o in (("query_seq_lengths", "querySeqLengths"), ("key_value_seq_lengths", "keyValueSeqLengths"))}
    output = np.asarray(jax.nn.dot_product_attention(
        arrays["query"], arrays["key"], arrays["value"], arrays.get("bias"), arrays.get("mask"), scale=options.get("scale"),
        is_causal=options.get("isCausal", False), local_window_size=tuple(window) if isinstance(window, list) else window, **lengths,
        implementation="xla"))

    expected, lse, _ = (x.numpy() for x in formula.attention(case, **formula.doubles(arrays)))
    rows = formula.empty_rows(case, arrays.get("mask"))
    wanted = expected.copy()
    kinds = set()
    for b, n, t in rows:
        mean = arrays["value"][b, :, n // (case["N"] // case["K"])].mean(0)
        zeros = bool((output[b, t, n] == 0).all())
        kinds.add("zeros" if zeros else "mean of V")
        wanted[b, t, n] = 0 if zeros else mean
    error = np.abs(output - wanted).max()
    assert error < 2e-6, (case["name"], error, kinds)
    tensors = arrays | {"output": output, "logSumExp": lse}
    described = formula.describe(case, "BTNH", rows)
    if rows:
        described["emptyRowOutput"] = " or ".join(sorted(kinds))
    return {f"{case['name']}/{k}": v for k, v in tensors.items()}, described


def main(out):
    arrays, cases = {}, []
    for index, case in enumerate(CASES):
        tensors, described = run(case, 200 + index)
        arrays |= tensors
        cases.append(described)
    write_arrays(out / "jax.safetensors", arrays)
    write_json(out / "jax.json", {
        "script": "tools/golden/attention_jax.py", "versions": versions("jax", "jaxlib"), "seed": "200 + index of the case",
        "logSumExp": "from the float64 formula in attention_formula.py; -Infinity where a query may attend to nothing", "cases": cases,
    })
    print(len(cases), "cases")


main(Path(sys.argv[1]))
