"""Makes test/golden/semantics/onnx.{safetensors,json}: what ONNX's reference implementation of Attention does
on the inputs of frameworks.safetensors.

Needs onnx (requirements-onnx.txt) and nothing else of the environment. Layout [B, T, N, H] in the file, [B,
N, T, H] for ONNX.
Usage: python semantics_onnx.py OUT        # OUT is test/golden/semantics, after semantics.py
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file

from golden_io import versions, write_arrays, write_json


def attention(opset, q, k, v, mask=None, **attributes):
    names = ["Q", "K", "V"] + ([] if mask is None else ["attn_mask"])
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(bool): TensorProto.BOOL}
    feeds = dict(zip(names, [np.ascontiguousarray(np.swapaxes(x, 1, 2)) for x in (q, k, v)] + ([] if mask is None else [mask])))
    graph = helper.make_graph(
        [helper.make_node("Attention", names, ["Y"], **attributes)], "attention",
        [helper.make_tensor_value_info(n, kinds[x.dtype], x.shape) for n, x in feeds.items()], [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        return np.swapaxes(ReferenceEvaluator(model).run(None, feeds)[0], 1, 2)


def main(out):
    x = load_file(out / "frameworks.safetensors")
    q, long, k, v, bias = (x[name] for name in ("q", "long", "key", "value", "bias"))
    mask, empty = x["mask"].astype(bool), x["emptyMask"].astype(bool)
    opsets = [n for n in (23, 24, 25, 26) if n <= onnx.defs.onnx_opset_version()]
    arrays = {}
    for n in opsets:
        try:
            arrays |= {
                f"{n}/heads": attention(n, q, k, v), f"{n}/causalShort": attention(n, q, k, v, is_causal=1), f"{n}/causalLong": attention(n, long, k[:, :3], v[:, :3], is_causal=1),
                f"{n}/emptyRow": attention(n, q, k, v, empty), f"{n}/softCapBias": attention(n, q, k, v, bias, softcap=0.7, scale=0.3),
            }
        except Exception as error:
            print(n, type(error).__name__, error)
    write_arrays(out / "onnx.safetensors", arrays)
    write_json(out / "onnx.json", {"script": "tools/golden/semantics_onnx.py", "versions": versions("onnx"), "opsets": opsets})
    for name, array in arrays.items():
        print(name, array.shape, "NaN" if np.isnan(array).any() else "")


main(Path(sys.argv[1]))
