"""Makes test/golden/train/: losses, every gradient, and ten AdamW steps with clipping, from PyTorch.

The models are tiny checkpoints of tiny_llama.py and tiny_families.py, loaded by transformers, and a small GPT
written here, whose weights are stored too. Loss: transformers' for `labels`, the mean cross-entropy of the
next token. Steps: torch.nn.utils.clip_grad_norm_(1.0), torch.optim.AdamW, the same batch in each.

Usage: python train.py GOLDEN        # GOLDEN is test/golden
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from golden_io import versions, write_arrays, write_json

CHECKPOINTS = ["tiny-llama/mha", "tiny-llama/gqa-tied", "tiny-llama/mqa", "tiny-qwen3/{first}", "tiny-gpt2/{first}"]
B, T, STEPS = 3, 23, 10
ADAMW = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CLIP = 1.0


class GQAttention(nn.Module):
    """Grouped queries as PyTorch users often write them: keys and values repeated for their query heads."""

    def __init__(self, dim=4096, n_head=32, n_kv_head=8):
        super().__init__()
        self.n_head, self.n_kv_head = n_head, n_kv_head
        self.head_dim = dim // n_head
        self.q_proj = nn.Linear(dim, n_head * self.head_dim, bias=False)
        self.k_proj = nn.Linear(dim, n_kv_head * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, n_kv_head * self.head_dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, self.n_head, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(B, T, self.n_kv_head, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(B, T, self.n_kv_head, self.head_dim).transpose(1, 2)
        g = self.n_head // self.n_kv_head
        k = k.repeat_interleave(g, dim=1)
        v = v.repeat_interleave(g, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class Block(nn.Module):
    def __init__(self, dim, n_head, n_kv_head):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(dim), GQAttention(dim, n_head, n_kv_head)
        self.ln_2, self.fc, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.proj(F.gelu(self.fc(self.ln_2(x))))


class Gpt(nn.Module):
    """nanoGPT's architecture with GQAttention; the head is tied to the embedding."""

    def __init__(self, vocab, context, dim, n_layer, n_head, n_kv_head):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, dim), nn.Embedding(context, dim)
        self.h = nn.ModuleList(Block(dim, n_head, n_kv_head) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(dim)

    def loss(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def run(model, ids, loss_of):
    """The gradients of the first loss, the losses before each step and after the last, and the gradient
    norms."""
    model.train()
    loss = loss_of(model, ids)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, ids)
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        optimizer.step()
    losses.append(loss_of(model, ids).item())
    return gradients, losses, norms


def main(golden):
    torch.set_num_threads(1)
    for index, pattern in enumerate([*CHECKPOINTS, "small-gpt"]):
        torch.manual_seed(900 + index)
        if pattern == "small-gpt":
            path = pattern
            model = Gpt(vocab=41, context=32, dim=24, n_layer=2, n_head=6, n_kv_head=2)
            vocab, loss_of = 41, lambda m, ids: m.loss(ids)
            arrays = {f"weight/{name}": p.detach().numpy().copy() for name, p in model.named_parameters()}
        else:
            folder = pattern.split("/")[0]
            first = sorted(p.name for p in (golden / folder).iterdir() if (p / "model.safetensors").exists())[0]
            path = pattern.format(first=first)
            model = AutoModelForCausalLM.from_pretrained(golden / path, attn_implementation="eager", dtype=torch.float32)
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            vocab, loss_of = model.config.vocab_size, lambda m, ids: m(input_ids=ids, labels=ids).loss
            arrays = {}
        ids = torch.randint(3, vocab, (B, T))  # ids 0 to 2 may be padding, whose embedding PyTorch does not train
        gradients, losses, norms = run(model, ids, loss_of)
        arrays["tokens"] = ids.numpy().astype(np.int32)
        for name, gradient in gradients.items():
            arrays[f"gradient/{name}"] = gradient.numpy()
        name = path.replace("/", "-")
        write_arrays(golden / "train" / f"{name}.safetensors", arrays)
        write_json(golden / "train" / f"{name}.json", {
            "script": "tools/golden/train.py", "versions": versions("torch", "transformers"),
            "adamw": {**ADAMW, "betas": list(ADAMW["betas"])}, "clip": CLIP,
            "cases": [{"checkpoint": None if pattern == "small-gpt" else path, "losses": losses, "norms": norms}],
        })
        print(name, f"{losses[0]:.5f} -> {losses[-1]:.5f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
