"""Makes test/golden/onnx/attention.{safetensors,json}: the node cases of ONNX's operator Attention, as its package makes them for backends.

Inputs and outputs are stored as f32 (f16 and bf16 without loss, masks of bool as u8); `dtypes` holds their types. The
outputs present_key and present_value, past and new tokens in one tensor, are checked here and left out. Needs onnx
(requirements-onnx.txt) and nothing else of the environment.
Usage: python onnx_attention.py OUT        # OUT is test/golden/onnx
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from onnx import helper
from onnx.backend.test.case.node import collect_testcases

from golden_io import versions, write_arrays, write_json


def stored(array):
    return array if array.dtype in (np.dtype(bool), np.dtype(np.int64)) else np.asarray(array, dtype=np.float32)


def main(out):
    warnings.simplefilter("ignore")  # of cases of other operators
    arrays, cases = {}, []
    for case in sorted(collect_testcases("Attention"), key=lambda case: case.name):
        node = case.model.graph.node[0]
        if node.op_type != "Attention":
            continue
        inputs, outputs = case.data_sets[0]
        inputs = dict(zip([name for name in node.input if name], inputs, strict=True))
        outputs = dict(zip([name for name in node.output if name], outputs, strict=True))
        for kind, new in (("key", "K"), ("value", "V")):
            present = outputs.pop(f"present_{kind}", None)
            if present is None:
                continue
            past, x = inputs[f"past_{kind}"], inputs[new]
            heads = x if x.ndim == 4 else np.swapaxes(x.reshape(*x.shape[:2], past.shape[1], -1), 1, 2)
            assert np.array_equal(present, np.concatenate([past, heads], axis=2))
        for name, array in (inputs | outputs).items():
            arrays[f"{case.name}/{name}"] = stored(array)
        cases.append({
            "name": case.name, "opset": case.model.opset_import[0].version,
            "attributes": {a.name: helper.get_attribute_value(a) for a in node.attribute},
            "dtypes": {name: str(array.dtype) for name, array in (inputs | outputs).items()},
        })
    write_arrays(out / "attention.safetensors", arrays)
    write_json(out / "attention.json", {"script": "tools/golden/onnx_attention.py", "versions": versions("onnx"), "cases": cases})
    print(len(cases), "cases,", sum("past_key" in c["dtypes"] for c in cases), "with a cache,",
          sum("qk_matmul_output" in c["dtypes"] for c in cases), "with scores or weights")


main(Path(sys.argv[1]))
