"""PyTorch eager as a contender of bench/training.mjs (protocol: bench/serve.mjs).

Trains a Llama-form GPT with fused AdamW and clipping, and runs attention forward and backward by
scaled_dot_product_attention(enable_gqa=True) and autograd.
"""

import json
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file

state = {"once": None, "threads": 1}


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, self.N, self.K = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.H = D // self.N
        self.q_proj = nn.Linear(D, self.N * self.H, bias=False)
        self.k_proj = nn.Linear(D, self.K * self.H, bias=False)
        self.v_proj = nn.Linear(D, self.K * self.H, bias=False)
        self.o_proj = nn.Linear(self.N * self.H, D, bias=False)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, self.N, self.H).transpose(1, 2)
        k = self.k_proj(x).view(B, T, self.K, self.H).transpose(1, 2)
        v = self.v_proj(x).view(B, T, self.K, self.H).transpose(1, 2)
        rotate = lambda y: torch.cat((-y[..., self.H // 2 :], y[..., : self.H // 2]), dim=-1)  # noqa: E731
        q, k = q * cos + rotate(q) * sin, k * cos + rotate(k) * sin
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, width = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(D, width, bias=False), nn.Linear(D, width, bias=False)
        self.down_proj = nn.Linear(width, D, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, eps = c["hidden_size"], c["rms_norm_eps"]
        self.input_layernorm, self.self_attn = nn.RMSNorm(D, eps=eps), Attention(c)
        self.post_attention_layernorm, self.mlp = nn.RMSNorm(D, eps=eps), Mlp(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Gpt(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"], eps=c["rms_norm_eps"])
        H, T = c["hidden_size"] // c["num_attention_heads"], c["max_position_embeddings"]
        angles = torch.outer(torch.arange(T).float(), 1.0 / c["rope_theta"] ** (torch.arange(0, H, 2).float() / H))
        self.register_buffer("cos", torch.cat((angles, angles), -1).cos())
        self.register_buffer("sin", torch.cat((angles, angles), -1).sin())

    def loss(self, ids):
        x, T = self.embed_tokens(ids[:, :-1]), ids.shape[1] - 1
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T])
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def prepare_training(row):
    model = Gpt(row["config"])
    weights = {name.removeprefix("model."): x for name, x in load_file(row["weights"]).items()}
    model.load_state_dict(weights, strict=False)
    ids = torch.tensor(row["tokens"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=row["rate"], betas=(0.9, 0.99), weight_decay=0.1, fused=True)

    def once():
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(ids)
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

    def once():
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        torch.autograd.grad((out * upstream).sum(), (query, key, value))
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
    return {"description": f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"}


commands = {"about": about, "prepare": prepare, "sample": sample}
for line in sys.stdin:
    command, argument = line.split(" ", 1)
    try:
        answer = {"ok": commands[command](json.loads(argument))}
    except Exception as error:  # noqa: BLE001 the message is the answer
        answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
    print("#bench " + json.dumps(answer), flush=True)
