"""A Llama-form model in bf16 by PyTorch as a contender, with the commands of bench/ours-model.mjs.

Only prefill, without a cache. The weights are those of a Hugging Face folder.
"""

import json
import os
import time

import torch
from llama import load
from serve import serve

state = {"model": None, "threads": 1}


def about(_):
    return {"description": f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, bf16"}


def set_threads(count):
    state["threads"] = count
    torch.set_num_threads(count)


def forward(tokens):
    model = state["model"]
    return model.logits(model.hidden(torch.tensor([tokens]))[:, -1]).float()


def load_model(row):
    with open(os.path.join(row["path"], "config.json")) as file:
        config = json.load(file)
    config["max_position_embeddings"] = min(config["max_position_embeddings"], 1024)
    state["model"] = load(config, os.path.join(row["path"], "model.safetensors")).to(torch.bfloat16)
    loaded = time.time()
    forward([1])
    return {"loaded": loaded * 1e3 - row["spawned"], "firstForward": time.time() * 1e3 - row["spawned"]}


def prefill(request):
    tokens = [(i * 7919 + 13) % 40000 for i in range(request["count"])]
    times, cpu, start = [], time.process_time(), time.perf_counter()
    now = start
    while True:
        before = now
        logits = forward(tokens)
        now = time.perf_counter()
        times.append((now - before) * 1e3)
        if (now - start) * 1e3 >= request["milliseconds"]:
            break
    used = time.process_time() - cpu
    busy = used / (now - start) / state["threads"]
    return {"times": times, "cpu": used * 1e3 / len(times), "busy": busy, "logits": logits[0, :64].tolist()}


with torch.inference_mode():
    serve({"about": about, "load": load_model, "setThreads": set_threads, "prefill": prefill})
