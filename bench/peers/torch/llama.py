"""A Llama-form model, with the names and the rotation of Hugging Face's, and tied embeddings."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file


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

    def hidden(self, ids):
        x, T = self.embed_tokens(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T])
        return self.norm(x)

    def logits(self, x):
        return F.linear(x, self.embed_tokens.weight)

    def loss(self, ids):
        logits = self.logits(self.hidden(ids[:, :-1]))
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def load(config, weights):
    model = Gpt(config)
    tensors = {name.removeprefix("model."): x for name, x in load_file(weights).items()}
    missing, _ = model.load_state_dict(tensors, strict=False)
    if set(missing) - {"cos", "sin"}:
        raise ValueError(f"{weights}: expected {missing[0]}")
    return model
