"""Shared by every script here: how a golden group is written, and which versions made it.

A group is one `.safetensors` file for the arrays and one `.json` file beside it for the cases. Output is
deterministic: the same versions and the same kind of CPU give the same bytes.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def versions(*packages):
    return {"python": platform.python_version(), **{name: version(name) for name in ("numpy", *packages)}}


def write_arrays(path, arrays):
    """arrays: name -> array. bool becomes u8, i64 becomes i32, f64 becomes f32, so that every reader can read
    it."""
    narrower = {np.dtype(bool): np.uint8, np.dtype(np.int64): np.int32, np.dtype(np.float64): np.float32}
    out = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        out[name] = np.ascontiguousarray(array.astype(narrower.get(array.dtype, array.dtype)))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(out, str(path))


def write_json(path, value):
    """Two-space JSON, but lists of numbers and small objects stay on one line."""
    text = _format(value, "") + "\n"
    assert json.loads(text) == json.loads(json.dumps(value))
    Path(path).write_text(text, encoding="utf-8")


def _format(value, indent):
    flat = json.dumps(value, ensure_ascii=True)
    if not isinstance(value, (dict, list)) or not value or len(indent + flat) <= 180:
        return flat
    if isinstance(value, list) and '"' not in flat and "{" not in flat:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(str(key))}: {_format(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + indent + "}"
    rows = [inner + _format(item, inner) for item in value]
    return "[\n" + ",\n".join(rows) + "\n" + indent + "]"
