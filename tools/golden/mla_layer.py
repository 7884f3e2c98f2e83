"""Makes test/golden/nnx/mla.{safetensors,json}: the attention layers of transformers' DeepSeek V2 and V3,
forward and backward, in float32 on the CPU. Parameters are written as gqa/nn's MultiHeadLatentAttention has
them: kernels [In, Out], kv_b_proj as its halves.

Usage: python mla_layer.py OUT        # OUT is test/golden/nnx
"""

import sys
from pathlib import Path

import torch
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.masking_utils import create_causal_mask
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

from golden_io import versions, write_arrays, write_json

B, T = 2, 11
SIZES = dict(hidden_size=30, num_attention_heads=5, num_key_value_heads=5, kv_lora_rank=22, qk_nope_head_dim=14, qk_rope_head_dim=6, v_head_dim=11)
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
V2 = (DeepseekV2Config, DeepseekV2Attention, DeepseekV2RotaryEmbedding)
V3 = (DeepseekV3Config, DeepseekV3Attention, DeepseekV3RotaryEmbedding)
CASES = {
    "v2": (V2, dict(q_lora_rank=13), True),
    "v2-lite": (V2, dict(q_lora_rank=None), True),
    "v3": (V3, dict(q_lora_rank=13, attention_bias=True), True),
    "v3-halves": (V3, dict(q_lora_rank=None, rope_interleave=False), False),
}
LINEARS = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj")


def as_ours(name, value):
    """A parameter (or its gradient) of transformers under gqa's names."""
    value = value.detach()
    module, kind = name.rsplit(".", 1)
    if module == "kv_b_proj":
        P, Hv, N = SIZES["qk_nope_head_dim"], SIZES["v_head_dim"], SIZES["num_attention_heads"]
        halves = value.view(N, P + Hv, -1)
        return {"k_b_proj": halves[:, :P], "v_b_proj": halves[:, P:]}
    if module in LINEARS:
        return {f"{module}.{'kernel' if kind == 'weight' else 'bias'}": value.t()}
    return {f"{module}.scale": value}


def main(out):
    arrays, cases = {}, []
    for seed, (name, ((Config, Attention, Rotary), fields, interleaved)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        config = Config(**SIZES, **fields, rope_parameters=ROPE, attn_implementation="eager")
        layer, rotary = Attention(config, 0).eval(), Rotary(config)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for norm in (layer.kv_a_layernorm, layer.q_a_layernorm):
            if norm is not None:
                torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        x = torch.randn(B, T, SIZES["hidden_size"], requires_grad=True)
        upstream = torch.randn(B, T, SIZES["hidden_size"])
        positions = torch.arange(T)[None].expand(B, T)
        mask = create_causal_mask(config=config, inputs_embeds=x, attention_mask=None, past_key_values=None, position_ids=positions)
        y, _ = layer(x, attention_mask=mask, position_embeddings=rotary(x, positions))
        (y * upstream).sum().backward()
        arrays |= {f"{name}/x": x.detach(), f"{name}/y": y.detach(), f"{name}/upstream": upstream, f"{name}/grad/x": x.grad}
        for path, parameter in layer.named_parameters():
            arrays |= {f"{name}/param/{key}": value for key, value in as_ours(path, parameter).items()}
            arrays |= {f"{name}/grad/{key}": value for key, value in as_ours(path, parameter.grad).items()}
        options = {"qLoraRank": fields["q_lora_rank"]} if fields["q_lora_rank"] else {}
        cases.append({"name": name, "options": {**options, "attentionBias": fields.get("attention_bias", False)}, "interleaved": interleaved})
    write_arrays(out / "mla.safetensors", {key: value.contiguous().numpy() for key, value in arrays.items()})
    write_json(out / "mla.json", {
        "script": "tools/golden/mla_layer.py", "versions": versions("torch", "transformers", "safetensors"),
        "options": {"hiddenSize": 30, "numAttentionHeads": 5, "kvLoraRank": 22, "qkNopeHeadDim": 14, "qkRopeHeadDim": 6, "vHeadDim": 11},
        "B": B, "T": T, "cases": cases,
    })


torch.set_num_threads(1)
main(Path(sys.argv[1]))
