"""PyTorch's scaled_dot_product_attention(enable_gqa=True) as a contender (protocol: bench/serve.mjs).

Inputs are contiguous [B, heads, tokens, H], PyTorch's fastest layout. In a bf16 row queries are bf16 too,
because PyTorch requires one dtype.
"""

import json
import sys
import time

import numpy
import torch
import torch.nn.functional as F

state = {"sets": [], "next": 0, "causal": False, "threads": 1}


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
    query, key, value = sets[state["next"] % len(sets)]
    state["next"] += 1
    return F.scaled_dot_product_attention(query, key, value, is_causal=state["causal"], enable_gqa=True)


def about(_):
    return {"description": f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"}


def set_threads(count):
    state["threads"] = count
    torch.set_num_threads(count)


def prepare(shape):
    release(None)
    set_threads(shape["threads"])
    dims = {name: shape[name] for name in "BTSNKH"}
    dtype = torch.bfloat16 if shape["dtype"] == "bf16" else torch.float32
    query = make(1, dims["B"], dims["T"], dims["N"], dims["H"], dtype)
    key = make(2, dims["B"], dims["S"], dims["K"], dims["H"], dtype)
    value = make(3, dims["B"], dims["S"], dims["K"], dims["H"], dtype)
    size = 2 * key.numel() * key.element_size()
    count = max(1, -(-shape.get("rotateBytes", 0) // size))
    state["sets"] = [(query.clone(), key.clone(), value.clone()) for _ in range(count)]
    state["next"], state["causal"] = 0, shape["causal"]
    out = call()
    ends = lambda n: list(dict.fromkeys([0, n // 2, n - 1]))  # noqa: E731
    rows = [out[0, n, t].float().tolist() for t in ends(dims["T"]) for n in ends(dims["N"])]
    return {"rows": [x for row in rows for x in row]}


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


commands = {"about": about, "prepare": prepare, "setThreads": set_threads, "sample": sample, "release": release}
with torch.inference_mode():
    for line in sys.stdin:
        command, argument = line.split(" ", 1)
        try:
            answer = {"ok": commands[command](json.loads(argument))}
        except Exception as error:  # noqa: BLE001 the message is the answer
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        print("#bench " + json.dumps(answer), flush=True)
