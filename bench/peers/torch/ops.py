"""PyTorch's scaled_dot_product_attention(enable_gqa=True) and linear as a contender (bench/serve.mjs).

Inputs of attention are contiguous [B, heads, tokens, H], PyTorch's fastest layout. In a bf16 row queries and
x are bf16 too, because PyTorch requires one dtype.
"""

import time

import numpy
import torch
import torch.nn.functional as F
from serve import serve

state = {"sets": [], "next": 0, "run": None, "threads": 1}


def numbers(seed, size):
    """The inputs of bench/inputs.mjs: murmur3's finaliser over seed and index, uniform in [-1, 1)."""
    x = numpy.arange(size, dtype=numpy.uint32)
    x *= numpy.uint32(0x9E3779B1)
    x += numpy.uint32(seed * 0x7F4A7C15 & 0xFFFFFFFF)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x85EBCA6B)
    x ^= x >> numpy.uint32(13)
    x *= numpy.uint32(0xC2B2AE35)
    x ^= x >> numpy.uint32(16)
    return (x >> numpy.uint32(8)).astype(numpy.float32) * numpy.float32(2**-23) - numpy.float32(1)


def make(seed, batch, tokens, heads, dim, dtype):
    flat = torch.from_numpy(numbers(seed, batch * tokens * heads * dim))
    return flat.view(batch, tokens, heads, dim).transpose(1, 2).contiguous().to(dtype)


def call():
    sets = state["sets"]
    inputs = sets[state["next"] % len(sets)]
    state["next"] += 1
    return state["run"](*inputs)


def copies(inputs, size, rotate_bytes):
    """Enough copies of the inputs for rotate_bytes, of which one copy reads `size`."""
    count = max(1, -(-rotate_bytes // size))
    state["sets"] = [tuple(x.clone() for x in inputs) for _ in range(count)]
    state["next"] = 0


ends = lambda n: list(dict.fromkeys([0, n // 2, n - 1]))  # noqa: E731


def about(_):
    return {"description": f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"}


def set_threads(count):
    state["threads"] = count
    torch.set_num_threads(count)


def prepare_attention(shape, dtype):
    dims = {name: shape[name] for name in "BTSNKH"}
    query = make(1, dims["B"], dims["T"], dims["N"], dims["H"], dtype)
    key = make(2, dims["B"], dims["S"], dims["K"], dims["H"], dtype)
    value = make(3, dims["B"], dims["S"], dims["K"], dims["H"], dtype)
    copies((query, key, value), 2 * key.numel() * key.element_size(), shape.get("rotateBytes", 0))
    causal = shape["causal"]
    state["run"] = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    out = call()
    rows = [out[0, n, t].float().tolist() for t in ends(dims["T"]) for n in ends(dims["N"])]
    return [x for row in rows for x in row]


def prepare_linear(shape, dtype):
    x = torch.from_numpy(numbers(4, shape["rows"] * shape["In"])).view(shape["rows"], shape["In"]).to(dtype)
    weight = torch.from_numpy(numbers(5, shape["Out"] * shape["In"])).view(shape["Out"], shape["In"]).to(dtype)
    copies((x, weight), weight.numel() * weight.element_size(), shape.get("rotateBytes", 0))
    state["run"] = F.linear
    out = call()
    return [out[r, o].item() for r in ends(shape["rows"]) for o in ends(shape["Out"])]


def prepare(shape):
    release(None)
    set_threads(shape["threads"])
    dtype = torch.bfloat16 if shape["dtype"] == "bf16" else torch.float32
    prepared = prepare_linear if shape.get("op") == "linear" else prepare_attention
    return {"rows": prepared(shape, dtype)}


def sample(milliseconds):
    times, cpu, start = [], time.process_time(), time.perf_counter()
    now = start
    while True:
        before = now
        call()
        now = time.perf_counter()
        times.append((now - before) * 1e3)
        if (now - start) * 1e3 >= milliseconds:
            break
    used = time.process_time() - cpu
    return {"times": times, "cpu": used * 1e3 / len(times), "busy": used / (now - start) / state["threads"]}


def release(_):
    state["sets"] = []


with torch.inference_mode():
    serve({"about": about, "prepare": prepare, "setThreads": set_threads, "sample": sample, "release": release})
