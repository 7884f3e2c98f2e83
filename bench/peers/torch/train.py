"""PyTorch as a contender of bench/training.mjs (protocol: bench/serve.mjs).

Trains a Llama-form GPT with fused AdamW and clipping, and runs attention forward and backward by
scaled_dot_product_attention(enable_gqa=True) and autograd. Arguments: `compile` for torch.compile, `autocast`
for bf16 autocast, either or both.
"""

import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from llama import load
from serve import serve

state = {"once": None, "threads": 1}
COMPILE, AUTOCAST = "compile" in sys.argv, "autocast" in sys.argv
autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST)  # noqa: E731


def prepare_training(row):
    model = load(row["config"], row["weights"])
    ids = torch.tensor(row["tokens"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=row["rate"], betas=(0.9, 0.99), weight_decay=0.1, fused=True)

    forward = torch.compile(model.loss) if COMPILE else model.loss

    def once():
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = forward(ids)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return once


def prepare_attention(row):
    generator = torch.Generator().manual_seed(0)
    make = lambda heads: torch.randn(1, heads, row["T"], row["H"], generator=generator).requires_grad_()  # noqa: E731
    query, key, value = make(row["N"]), make(row["K"]), make(row["K"])
    upstream = torch.randn(1, row["N"], row["T"], row["H"], generator=generator)

    def loss():
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return (out * upstream).sum()

    forward = torch.compile(loss) if COMPILE else loss

    def once():
        with autocast():
            total = forward()
        torch.autograd.grad(total, (query, key, value))
        return 0.0

    return once


def prepare(row):
    state["threads"] = row["threads"]
    torch.set_num_threads(row["threads"])
    state["once"] = (prepare_attention if "T" in row else prepare_training)(row)
    return {"losses": [state["once"]() for _ in range(3)]}


def sample(runs):
    times, cpu = [], time.process_time()
    for _ in range(runs):
        start = time.perf_counter()
        state["once"]()
        times.append((time.perf_counter() - start) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"times": times, "cpu": (time.process_time() - cpu) * 1e3 / runs, "peakMiB": peak}


def about(_):
    how = "".join(f", {name}" for name in sys.argv[1:])
    return {"description": f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}{how}"}


serve({"about": about, "prepare": prepare, "sample": sample})
