"""Makes test/golden/experts/golden.{safetensors,json}: mixture-of-experts layers of transformers, outputs and
gradients.

Each case is one layer of a model's own modelling code with random weights, in float32: the router, the
experts (stacked, as transformers holds them), the shared experts, what comes out for x [B, T, D], and
autograd's gradients for a random one of the output.

Usage: python experts.py OUT        # OUT is test/golden/experts
"""

import sys
from pathlib import Path

import torch
from transformers import DeepseekV2Config, DeepseekV3Config, Gemma4TextConfig, GptOssConfig, MixtralConfig, Qwen3MoeConfig
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextExperts, Gemma4TextRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from golden_io import versions, write_arrays, write_json

B, T, D, I = 2, 5, 13, 7
DEEPSEEK = dict(hidden_size=D, moe_intermediate_size=I, n_shared_experts=2, num_attention_heads=1)
GROUPS = dict(n_group=3, topk_group=2)


class Gemma4Experts(torch.nn.Module):
    """The router and the experts of a layer, both of x; the layer has a norm in front of its experts."""

    def __init__(self, config):
        super().__init__()
        self.router, self.experts = Gemma4TextRouter(config), Gemma4TextExperts(config)

    def forward(self, x):
        rows = x.reshape(-1, D)
        _, weights, chosen = self.router(rows)
        return self.experts(rows, chosen, weights).reshape(x.shape)


# name -> (module, config, this library's routing)
CASES = {
    "deepseek-v2-greedy": (
        DeepseekV2Moe, DeepseekV2Config(**DEEPSEEK, n_routed_experts=7, num_experts_per_tok=3, topk_method="greedy", routed_scaling_factor=1.0),
        dict(scores="softmax", choiceBias=False, normalize=False, scale=1)),
    "deepseek-v2-groups": (
        DeepseekV2Moe,
        DeepseekV2Config(**DEEPSEEK, **GROUPS, n_routed_experts=12, num_experts_per_tok=3, topk_method="group_limited_greedy", routed_scaling_factor=2.5),
        dict(scores="softmax", groups=dict(count=3, kept=2, best=1), choiceBias=False, normalize=False, scale=2.5)),
    "deepseek-v3": (
        DeepseekV3MoE, DeepseekV3Config(**DEEPSEEK, **GROUPS, n_routed_experts=12, num_experts_per_tok=4, norm_topk_prob=True, routed_scaling_factor=2.5),
        dict(scores="sigmoid", groups=dict(count=3, kept=2, best=2), choiceBias=True, normalize=True, scale=2.5)),
    "deepseek-v3-unnormalised": (
        DeepseekV3MoE,
        DeepseekV3Config(**DEEPSEEK, n_group=1, topk_group=1, n_routed_experts=5, num_experts_per_tok=2, norm_topk_prob=False, routed_scaling_factor=1.0),
        dict(scores="sigmoid", choiceBias=True, normalize=False, scale=1)),
    "gpt-oss": (
        GptOssMLP, GptOssConfig(hidden_size=D, intermediate_size=I, num_local_experts=5, num_experts_per_tok=2, swiglu_limit=0.9),
        dict(scores="softmaxOfChosen", choiceBias=False, normalize=False, scale=1)),
    "mixtral": (
        MixtralSparseMoeBlock, MixtralConfig(hidden_size=D, intermediate_size=I, num_local_experts=5, num_experts_per_tok=2),
        dict(scores="softmax", choiceBias=False, normalize=True, scale=1)),
    "qwen3-moe": (
        Qwen3MoeSparseMoeBlock, Qwen3MoeConfig(hidden_size=D, moe_intermediate_size=I, num_experts=7, num_experts_per_tok=3, norm_topk_prob=False),
        dict(scores="softmax", choiceBias=False, normalize=False, scale=1)),
    "gemma4": (
        Gemma4Experts,
        Gemma4TextConfig(hidden_size=D, moe_intermediate_size=I, num_experts=5, top_k_experts=2, enable_moe_block=True,
                         hidden_activation="silu", num_attention_heads=1, num_key_value_heads=1),
        dict(scores="softmax", choiceBias=False, normalize=True, scale=1, norm=dict(scale=D**-0.5), expertScale=True)),
}
NAMES = {
    "router.proj.weight": "router", "router.scale": "routerNorm", "router.per_expert_scale": "expertScale",
    "gate.weight": "router", "router.weight": "router", "router.bias": "routerBias",
    "experts.gate_up_proj": "gateUp", "experts.gate_up_proj_bias": "gateUpBias", "experts.down_proj": "down", "experts.down_proj_bias": "downBias",
    "shared_experts.gate_proj.weight": "shared/gate", "shared_experts.up_proj.weight": "shared/up", "shared_experts.down_proj.weight": "shared/down",
}


def main(out):
    torch.set_num_threads(1)
    arrays, cases = {}, []
    for seed, (name, (module, config, routing)) in enumerate(CASES.items()):
        config._experts_implementation = "eager"
        layer = module(config).float()
        generator = torch.Generator().manual_seed(1700 + seed)
        draw = lambda *shape: torch.randn(*shape, generator=generator)
        with torch.no_grad():
            for key, p in layer.named_parameters():
                p.copy_(draw(*p.shape) * 0.5)
            for key, buffer in layer.named_buffers():
                assert key == "gate.e_score_correction_bias"
                buffer.copy_(0.2 * draw(*buffer.shape))
                arrays[f"{name}/choiceBias"] = buffer.numpy()
        x, gradient = draw(B, T, D).requires_grad_(), draw(B, T, D)
        result = layer(x)
        y = result[0] if isinstance(result, tuple) else result
        y.backward(gradient)
        arrays |= {f"{name}/x": x.detach().numpy(), f"{name}/y": y.detach().numpy(), f"{name}/dY": gradient.numpy(), f"{name}/d/x": x.grad.numpy()}
        for key, p in layer.named_parameters():
            arrays |= {f"{name}/{NAMES[key]}": p.detach().numpy(), f"{name}/d/{NAMES[key]}": p.grad.numpy()}
        clamped = name == "gpt-oss"
        activation = dict(type="clamped", alpha=config.swiglu_alpha, limit=config.swiglu_limit) if clamped else dict(type="gated", function="silu")
        cases.append(dict(name=name, numExperts=arrays[f"{name}/router"].shape[0], expertsPerToken=getattr(config, "num_experts_per_tok", None) or config.top_k_experts,
                          intermediateSize=I, routing=routing, activation=activation))
    write_arrays(out / "golden.safetensors", arrays)
    write_json(out / "golden.json", {"script": "tools/golden/experts.py", "versions": versions("torch", "transformers"), "B": B, "T": T, "D": D, "cases": cases})


main(Path(sys.argv[1]))
