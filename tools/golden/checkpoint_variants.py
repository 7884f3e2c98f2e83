"""Makes test/golden/checkpoint-variants/: logits of tiny checkpoints of the other folders with keys of their
config.json replaced, or with their weights stored in another way, by transformers (float32, eager).

- `keys`: activations that no released family uses, dynamic NTK scaling (with the last logits of every shorter
  sequence, each in a whole pass), YaRN added by hand, a window beside `use_sliding_window: false`.
- `stored`: `rolled` adds an output head to a tied checkpoint, its embedding one row further, which
  transformers then does not tie; `head only` stores the tied matrix under the head's name alone; `both` under
  both names; `base` takes the names that the model without head saves.

Usage: python checkpoint_variants.py OUT   # OUT is test/golden
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from golden_io import versions, write_arrays, write_json
from tiny_models import logits_of

T, PLACES = 24, (4, 13, 23)
ACTIVATIONS = ("relu", "relu2", "relu6", "leaky_relu", "mish", "quick_gelu", "gelu_fast", "gelu_new", "gelu_accurate", "gelu_python",
               "gelu_python_tanh", "gelu_10", "gelu", "swish", "hardswish", "sigmoid", "tanh", "linear")
DYNAMIC = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.5}, "max_position_embeddings": 12}
YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}
HEADS = {"tiny-gpt2/prefix": "transformer.wte", "tiny-falcon/7b": "transformer.word_embeddings"}
TIED = ("tiny-llama/gqa-tied", "tiny-qwen2/plain", "tiny-qwen3/plain", "tiny-phi3/partial", "tiny-gemma2/plain", "tiny-gemma3/plain",
        "tiny-starcoder2/window", "tiny-gpt2/prefix", "tiny-falcon/7b")

# name -> (checkpoint, config keys, how its weights are stored)
VARIANTS = {
    **{f"llama {name}": ("tiny-llama/mqa", {"hidden_act": name}, None) for name in ACTIVATIONS},
    "gpt2 relu2": ("tiny-gpt2/prefix", {"activation_function": "relu2"}, None),
    "gpt_bigcode mish": ("tiny-gpt_bigcode/one", {"activation_function": "mish"}, None),
    "falcon quick_gelu": ("tiny-falcon/7b", {"activation": "quick_gelu"}, None),
    "starcoder2 relu2": ("tiny-starcoder2/window", {"hidden_act": "relu2"}, None),
    "gemma2 relu": ("tiny-gemma2/plain", {"hidden_activation": "relu"}, None),
    "gemma3 quick_gelu": ("tiny-gemma3/plain", {"hidden_activation": "quick_gelu"}, None),
    "phi3 mish": ("tiny-phi3/plain", {"hidden_act": "mish"}, None),
    "qwen3 relu2": ("tiny-qwen3/plain", {"hidden_act": "relu2"}, None),
    "deepseek_v2 relu2": ("tiny-deepseek/v2-lite", {"hidden_act": "relu2"}, None),
    "deepseek_v3 gelu": ("tiny-deepseek/v3", {"hidden_act": "gelu"}, None),
    "llama dynamic": ("tiny-llama/gqa-tied", DYNAMIC, None),
    "falcon dynamic": ("tiny-falcon/7b", DYNAMIC, None),
    "gemma3 dynamic": ("tiny-gemma3/options", DYNAMIC, None),
    "deepseek_v3 dynamic": ("tiny-deepseek/v3-dense", DYNAMIC, None),
    "llama yarn": ("tiny-llama/mha", YARN, None),
    "qwen2 yarn": ("tiny-qwen2/plain", YARN, None),
    "mistral window": ("tiny-mistral/window", {"use_sliding_window": False}, None),
    **{f"{name.split('/')[0][5:]} {how}": (name, {}, how) for name in TIED for how in ("rolled", "head only", "both", "base")},
    "gemma3 images base": ("tiny-gemma3/images", {}, "base"),
    "gpt_bigcode base": ("tiny-gpt_bigcode/one", {}, "base"),
}


def restored(base, tensors, how):
    embedding = f"{HEADS.get(base, 'model.embed_tokens')}.weight"
    matrix = tensors[embedding]
    if how == "rolled":
        return tensors | {"lm_head.weight": torch.roll(matrix, 1, 0)}
    if how == "both":
        return tensors | {"lm_head.weight": matrix.clone()}
    return {name: tensor for name, tensor in tensors.items() if name != embedding} | {"lm_head.weight": matrix}


def make(out, base, keys, how, folder):
    config = json.loads((out / base / "config.json").read_text())
    for key, value in keys.items():
        config[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    if how == "base":
        AutoModel.from_pretrained(out / base, dtype=torch.float32).save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(config))
        return sorted(load_file(folder / "model.safetensors"))
    for path in (out / base).glob("model*.safetensors*"):
        shutil.copy(path, folder)
    if how:
        path = folder / "model.safetensors"
        save_file(restored(base, load_file(path), how), path, metadata={"format": "pt"})
    return None


def last_logits(model, tokens, lengths):
    """Of each whole pass; a short one between, after which transformers has its first frequencies again."""
    rows = []
    for length in lengths:
        logits_of(model, tokens[None, :2])
        rows.append(logits_of(model, tokens[None, :length])[0, -1])
    return torch.stack(rows)


@torch.no_grad()
def cached_difference(model, tokens, last, start):
    """How far transformers' decoding with a cache is from its whole passes."""
    logits_of(model, tokens[None, :2])
    step, worst = model(tokens[None, :start], use_cache=True), 0.0
    for at in range(start, len(tokens)):
        step = model(tokens[None, at : at + 1], past_key_values=step.past_key_values, use_cache=True)
        worst = max(worst, float((step.logits[0, -1] - last[at]).abs().max()))
    return worst


def main(out):
    arrays, cases = {}, []
    for index, (name, (base, keys, how)) in enumerate(VARIANTS.items()):
        with TemporaryDirectory() as folder:
            names = make(out, base, keys, how, Path(folder))
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
            config = model.config.get_text_config()
            tokens = torch.randint(3, config.vocab_size, (T,), generator=torch.Generator().manual_seed(50 + index))
            case = {"name": name, "base": base, "keys": keys} | ({"stored": how} if how else {}) | ({"names": names} if names else {})
            whole = logits_of(model, tokens[None])[0]
            arrays |= {f"{name}/tokens": tokens.numpy(), f"{name}/logits": whole[list(PLACES)].numpy()}
            if keys is DYNAMIC:
                last = last_logits(model, tokens, range(1, T + 1))
                arrays[f"{name}/last"] = last.numpy()
                case["cachedDifference"] = cached_difference(model, tokens, last, 12)
            cases.append(case)
    folder = out / "checkpoint-variants"
    folder.mkdir(exist_ok=True)
    write_arrays(folder / "golden.safetensors", arrays)
    write_json(folder / "golden.json", {
        "script": "tools/golden/checkpoint_variants.py", "versions": versions("torch", "transformers", "safetensors"),
        "attention": "eager, float32", "T": T, "places": list(PLACES), "cases": cases})
    print([(case["name"], case["cachedDifference"]) for case in cases if "cachedDifference" in case])


transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
main(Path(sys.argv[1]))
