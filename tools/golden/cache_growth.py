"""What transformers' own cache grows by, layer by layer, for the config of each causal model: the expected
values for the planner's reading of a config.json. Models are built without memory (torch's meta device) and
run on 6 and 7 tokens; the difference of everything a cache layer holds is what one token adds.

A row: the config's keys that say something about sizes or layers (what it says of experts, tokens and
rotation left out), and `layers`, run by run: `5x2048w512 1x4096` are five layers that add 2,048 values per
token and keep a window of 512, then one that adds 4,096. Layers that add nothing are left out. Each default
config comes twice: as transformers saves it, and as hubs have it, without the lists that the class works out.

Usage: python cache_growth.py OUT        # OUT is test/golden/planner/cache-growth.json
"""

import json
import os
import re
import signal
import sys
import warnings

os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.utils import logging

logging.set_verbosity_error()
torch.set_num_threads(1)

# Keys that a class derives where the file lacks them.
DERIVED = ["layer_types", "layers_block_type", "per_layer_config", "indexer_types", "hybrid_layer_ids",
           "attention_hidden_size", "attention_head_dim"]

# Keys that have nothing to do with sizes and layers.
DROPPED = re.compile(
    r"token|dropout|pdrop|initializer|_eps$|epsilon|^output_|return_dict|dtype|label|archit|transformers_version|^_|problem_type"
    r"|(?<!qk_)rope|router|expert|moe|norm|bos|eos|pad_|_act$|activation|time_step|multiplier|mlp_|^use_cache|vision|audio|image"
    r"|is_encoder_decoder|^id2|std$|sinkhorn|softcap|layerdrop|use_return|chunk_size_feed|residual|classifier|summary|group$"
)

# Files as hubs have them, which name what the class derives by other keys, and models whose default config is
# none.
HUB = {
    "step3p5": dict(num_hidden_layers=4, hidden_size=60, num_attention_heads=12, num_attention_groups=2, head_dim=10,
                    sliding_window=5, num_nextn_predict_layers=1, attention_other_setting=dict(
                        attention_type="sliding_attention", num_attention_heads=18, num_attention_groups=2, head_dim=10),
                    layer_types=["full_attention"] + 3 * ["sliding_attention"] + ["full_attention"],
                    moe_num_experts=4, moe_top_k=2, moe_intermediate_size=8, share_expert_dim=8, intermediate_size=16),
    "mimo_v2_flash": dict(num_hidden_layers=7, hidden_size=60, num_attention_heads=12, num_key_value_heads=3, head_dim=12,
                          v_head_dim=10, sliding_window_size=5, swa_num_key_value_heads=6,
                          hybrid_layer_pattern=[0, 1, 1, 1, 1, 0, 1]),
    "nemotron_h": dict(hidden_size=60, num_attention_heads=6, num_key_value_heads=2, head_dim=14,
                       hybrid_override_pattern="M-M*EM*-", mamba_num_heads=4, mamba_head_dim=8, n_groups=2, ssm_state_size=4,
                       n_routed_experts=4, moe_intermediate_size=8, moe_shared_expert_intermediate_size=8),
    "kimi_linear": dict(num_hidden_layers=5, linear_attn_config=dict(
        full_attn_layers=[2, 5], kda_layers=[1, 3, 4], head_dim=128, num_heads=32, short_conv_kernel_size=4)),
    "glm_moe_dsa": dict(num_hidden_layers=9, index_topk_freq=4, index_skip_topk_offset=3),
    "gemma4_text": dict(num_hidden_layers=7, num_attention_heads=12, hidden_size=60, num_key_value_heads=4, head_dim=10,
                        global_head_dim=22, attention_k_eq_v=True, num_global_key_value_heads=2, sliding_window=7,
                        num_kv_shared_layers=0, hidden_size_per_layer_input=0),
    "inkling_text": dict(num_hidden_layers=4, local_layer_ids=[0, 2]),
    "minimax_m3_vl_text": dict(num_hidden_layers=3, sparse_attention_config=dict(
        sparse_attention_freq=[0, 1, 1], sparse_index_dim=48, sparse_num_index_heads=4)),
    "llama4_text": dict(num_hidden_layers=8, hidden_size=60, num_attention_heads=6, num_key_value_heads=2, head_dim=10,
                        attention_chunk_size=16, num_local_experts=2),
    "nemotron": dict(num_hidden_layers=2, hidden_size=60, num_attention_heads=6, num_key_value_heads=2),
    "zamba2": dict(num_hidden_layers=4, hidden_size=64, num_attention_heads=4, num_key_value_heads=4,
                   layers_block_type=["mamba", "hybrid", "mamba", "hybrid"], attention_head_dim=32),
    "glm4_moe": dict(num_hidden_layers=3, head_dim=128),
    "cohere2_moe": dict(num_hidden_layers=8, first_k_dense_replace=2),
    "qwen2": dict(num_hidden_layers=4, use_sliding_window=True, sliding_window=9, max_window_layers=1),
    "ministral": dict(num_hidden_layers=3, head_dim=128, sliding_window=100),
}


def values(thing, seen, depth=0):
    """Everything that a cache layer holds."""
    if id(thing) in seen or depth > 6:
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return thing.numel()
    if isinstance(thing, dict):
        return sum(values(v, seen, depth + 1) for v in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(values(v, seen, depth + 1) for v in thing)
    if hasattr(thing, "__dict__") and type(thing).__module__.startswith("transformers"):
        return sum(values(v, seen, depth + 1) for v in vars(thing).values())
    return 0


def growth(model_type, config, device="meta"):
    name = CAUSAL.get(model_type) or {"step3p5": "Step3p7TextModel"}[model_type]
    cls = getattr(transformers, name if isinstance(name, str) else name[0])
    config._attn_implementation = "eager"
    config._experts_implementation = "batched_mm"
    with torch.device(device):
        model = cls(config).eval()

    def held(tokens):
        with torch.no_grad(), torch.device(device):
            out = model(input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=True)
        return [(values(layer, set()), getattr(layer, "sliding_window", None)) for layer in out.past_key_values.layers]

    runs = []
    for (before, _), (after, window) in zip(held(3), held(4)):
        if after == before:
            continue
        text = f"{after - before}" + (f"w{window}" if isinstance(window, int) else "")
        if runs and runs[-1][1] == text:
            runs[-1][0] += 1
        else:
            runs.append([1, text])
    return " ".join(f"{count}x{text}" for count, text in runs)


def plain(config):
    """The JSON values of a config, without the keys above."""
    kept = {k: v for k, v in config.items() if v is not None and not DROPPED.search(k)}
    return json.loads(json.dumps(kept, default=str))


def rows_of(model_type):
    default = CONFIG_MAPPING[model_type]()
    layers = growth(model_type, default)
    saved = json.loads(json.dumps(default.to_dict(), default=str).replace("Infinity", "null"))
    yield dict(form="saved", config=plain(saved), layers=layers)
    bare = {k: v for k, v in saved.items() if k not in DERIVED}
    again = CONFIG_MAPPING[model_type](**{k: v for k, v in bare.items() if k not in ("model_type", "time_step_limit")})
    if len(bare) < len(saved) and all(getattr(again, k, None) == getattr(default, k, None) for k in DERIVED[:2]):
        yield dict(form="bare", config=plain(bare), layers=layers)


def main():
    rows, failed = [], []

    def late(*_):
        raise TimeoutError("60 s")

    signal.signal(signal.SIGALRM, late)
    work = [(m, None) for m in sorted(CAUSAL)] + list(HUB.items())
    for model_type, raw in work:
        signal.alarm(60)
        try:
            if raw is None:
                rows += rows_of(model_type)
            else:
                # Step's experts are chosen by values, so that model is built in memory.
                layers = growth(model_type, CONFIG_MAPPING[model_type](**raw), "cpu" if "step" in model_type else "meta")
                config = dict(model_type=model_type, **raw)
                if "hidden_size" not in config:
                    saved = CONFIG_MAPPING[model_type](**raw).to_dict()
                    config = {**{k: v for k, v in saved.items() if k not in DERIVED}, **raw}
                rows.append(dict(form="hub", config=plain(config), layers=layers))
        except Exception as error:  # no cache of layers, no default config, or needs values
            failed.append((model_type, "hub" if raw else "default", f"{type(error).__name__} {error}"[:90].replace("\n", " ")))
        signal.alarm(0)
    with open(sys.argv[1], "w") as file:
        head = dict(transformers=transformers.__version__, torch=torch.__version__.split("+")[0])
        file.write("[\n" + ",\n".join(json.dumps(row) for row in [head, *rows]) + "\n]\n")
    for one in failed:
        print("not measured:", *one)
    print(len(rows), "rows")


main()
