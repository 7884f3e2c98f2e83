"""Makes test/golden/quant/{blocks,more-blocks}.{safetensors,json}: matrices in GGUF's storage types and what the
gguf package reads from them; `more-blocks` has Q2_K, Q3_K, IQ4_XS, IQ4_NL and MXFP4.

Types that the package can write are quantised from random numbers with awkward rows (all zero, constant, one
outlier, tiny, huge). The K types it can only read: there the blocks are random bytes with sane float16
scales.

Usage: python quant_blocks.py OUT        # OUT is test/golden/quant
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

from golden_io import versions, write_arrays, write_json

WRITABLE = (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1)
# Byte offsets of the float16 scales in a block; MXFP4 has an exponent in byte 0.
SCALES_AT = {Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}
MORE_SCALES_AT = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.IQ4_XS: (0,), Type.IQ4_NL: (0,), Type.MXFP4: ()}
SHAPES = ((7, 96), (3, 32), (13, 160))


def awkward(rng, rows, cols):
    w = rng.standard_normal((rows, cols), dtype=np.float32)
    if rows >= 7:
        w[1] = 0
        w[2] = -0.75
        w[3, 5] = 40
        w[4] *= 1e-6  # a scale that is subnormal in float16
        w[5] = np.abs(w[5]) * 300
    return w


def random_blocks(rng, kind, rows, blocks):
    raw = rng.integers(0, 256, (rows, blocks, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    if kind == Type.MXFP4:
        raw[:, :, 0] = rng.integers(115, 123, (rows, blocks))
    for at in (SCALES_AT | MORE_SCALES_AT)[kind]:
        scale = (rng.standard_normal((rows, blocks, 1)) * 0.01).astype(np.float16)
        raw[:, :, at : at + 2] = scale.view(np.uint8)
    return raw.reshape(rows, -1)


def make(out, name, seed, writable, readable):
    rng = np.random.default_rng(seed)
    arrays, cases = {}, []

    def add(kind, raw, source):
        values = dequantize(raw, kind).astype(np.float32)
        rows, cols = values.shape
        case = f"{kind.name.lower()}-{rows}x{cols}"
        x = rng.standard_normal((5, cols), dtype=np.float32)
        product = x.astype(np.float64) @ values.T.astype(np.float64)
        tensors = {"raw": raw.view(np.uint8).reshape(rows, -1), "dequantized": values, "x": x, "product": product}
        tensors |= {} if source is None else {"source": source}
        arrays.update({f"{case}/{k}": v for k, v in tensors.items()})
        block, block_bytes = GGML_QUANT_SIZES[kind]
        cases.append({"name": case, "type": kind.name, "ggmlType": int(kind), "rows": rows, "cols": cols, "blockSize": block,
                      "blockBytes": block_bytes, "quantizedFromSource": source is not None})

    for kind in writable:
        for rows, cols in SHAPES:
            source = awkward(rng, rows, cols)
            add(kind, quantize(source, kind), source)
    for kind in readable:
        for rows, blocks in ((3, 1), (5, 2)):
            add(kind, random_blocks(rng, kind, rows, blocks), None)
    write_arrays(out / f"{name}.safetensors", arrays)
    write_json(out / f"{name}.json", {
        "script": "tools/golden/quant_blocks.py", "versions": versions("gguf"), "seed": seed,
        "product": "x times the transposed dequantized matrix, float64 rounded to float32", "cases": cases,
    })
    print(len(cases), "cases")


def main(out):
    make(out, "blocks", 600, WRITABLE, SCALES_AT)
    make(out, "more-blocks", 601, (), MORE_SCALES_AT)


main(Path(sys.argv[1]))
