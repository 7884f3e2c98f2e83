"""Makes test/golden/looking-inside/: what transformers gives for output_attentions and output_hidden_states, and pooled embeddings.

Eager attention, f32, on the tiny checkpoints of test/golden: two rows of 13 tokens in one pass, and the last 5 of them
after the first 8 through a cache. With GGUF_FILE a digest of SmolLM2 and its embeddings of some texts: the mean over the
tokens of a text (sentence-transformers' definition), its last and its first token, all after the final norm.

Usage: python looking_inside.py GOLDEN [GGUF_FILE]        # GOLDEN is test/golden
"""

import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

from golden_io import versions, write_arrays, write_json

MODELS = ("tiny-llama/gqa-tied", "tiny-gemma2/plain", "tiny-gpt_oss/plain", "tiny-gpt2/bare", "tiny-falcon/40b", "tiny-deepseek/v2", "tiny-deepseek/v3")
T, FIRST = 13, 8
TEXTS = ["The cat sat on the warm windowsill.", "Snow", "Une phrase en fran\u00e7ais, un peu plus longue que les autres, pour voir.", "2 + 2 = 4"]
IDS = [504, 2644, 282, 4649, 314, 260, 3, 42]  # a short row of SmolLM2's ids


@torch.no_grad()
def outputs(model, tokens, **more):
    return model(tokens, output_attentions=True, output_hidden_states=True, **more)


def tiny(out):
    arrays, cases = {}, []
    for index, name in enumerate(MODELS):
        model = AutoModelForCausalLM.from_pretrained(out / name, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
        generator = torch.Generator().manual_seed(700 + index)
        tokens = torch.randint(3, model.config.vocab_size, (2, T), generator=generator)
        arrays[f"{name}/tokens"] = tokens
        whole = outputs(model, tokens, use_cache=False)
        cache = DynamicCache()
        outputs(model, tokens[:, :FIRST], past_key_values=cache, use_cache=True)
        rest = outputs(model, tokens[:, FIRST:], past_key_values=cache, use_cache=True)
        for layer, weights in enumerate(whole.attentions):
            arrays[f"{name}/attentions/{layer}"] = weights
            # the weights of a cache's last tokens are those of a whole pass; window layers of transformers keep less of it
            kept = rest.attentions[layer].shape[-1]
            assert torch.allclose(rest.attentions[layer], weights[:, :, FIRST:, T - kept:], atol=1e-5), (name, layer)
        for layer, states in enumerate(whole.hidden_states):
            arrays[f"{name}/hiddenStates/{layer}"] = states
        cases.append({"name": name, "attentions": len(whole.attentions), "hiddenStates": len(whole.hidden_states)})
        print(name, [tuple(w.shape) for w in whole.attentions], len(whole.hidden_states))
    write_arrays(out / "looking-inside/tiny.safetensors", {name: x.numpy() for name, x in arrays.items()})
    write_json(out / "looking-inside/tiny.json", {
        "script": "tools/golden/looking_inside.py", "versions": versions("torch", "transformers"), "first": FIRST, "cases": cases,
    })


def smollm2(out, file):
    from smollm2 import with_single_digits

    folder, name = str(Path(file).parent), Path(file).name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = with_single_digits(transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name), file)
    whole = outputs(model, torch.tensor([IDS]), use_cache=False)
    # per layer and head the last query's weights, and of each hidden state its first 16 numbers of the last token
    arrays = {
        "tokens": torch.tensor(IDS), "attentions": torch.stack([w[0, :, -1] for w in whole.attentions]),
        "hiddenStates": torch.stack([h[0, -1, :16] for h in whole.hidden_states]),
    }
    pooled = {"mean": [], "last": [], "cls": []}
    for text in TEXTS:
        ids = tokenizer(text).input_ids
        states = outputs(model, torch.tensor([ids]), use_cache=False).hidden_states[-1][0]
        pooled["mean"].append(states.mean(0)), pooled["last"].append(states[-1]), pooled["cls"].append(states[0])
    arrays |= {name: torch.stack(rows)[:, ::4] for name, rows in pooled.items()}  # every fourth number
    arrays["normalized"] = torch.nn.functional.normalize(torch.stack(pooled["mean"]))[:, ::4]
    write_arrays(out / "looking-inside/smollm2.safetensors", {name: x.contiguous().numpy() for name, x in arrays.items()})
    write_json(out / "looking-inside/smollm2.json", {
        "script": "tools/golden/looking_inside.py", "versions": versions("torch", "transformers", "gguf"), "cases": [], "texts": TEXTS,
    })


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tiny(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        smollm2(Path(sys.argv[1]), sys.argv[2])
