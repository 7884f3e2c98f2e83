"""Makes test/golden/logits-processors/processors.json: rows of logits before and after transformers' processors.

The list of processors is the one that `generate` makes (`_get_logits_processor`), so their order counts too. The options are written
as gqa's. -Infinity is null. `ties`: equal logits at the border of top-p, of which torch keeps any; the sorted values count.

Usage: python logits_processors.py OUT        # OUT is test/golden/logits-processors
"""

import sys
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from golden_io import versions, write_json

INF = float("inf")
NAMES = {
    "temperature": "temperature", "topK": "top_k", "topP": "top_p", "minP": "min_p", "typicalP": "typical_p",
    "repetitionPenalty": "repetition_penalty", "noRepeatNgramSize": "no_repeat_ngram_size", "minNewTokens": "min_new_tokens",
}
OFF = {"top_k": None, "top_p": None, "temperature": None, "max_new_tokens": 20}


def normal(seed, size, scale):
    """Multiples of 1/64, so that every one is exact in float32."""
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (torch.round(values * scale * 64) / 64).tolist()


PLAIN = normal(1, 17, 3)
ROWS = {
    "plain": PLAIN,
    "ties": [2.0, 1.0, 1.0, -0.5, 2.0, 1.0, -0.5, 0.0, -3.0, 1.0, 0.0],
    "masked": [-INF if id % 3 == 1 else value for id, value in enumerate(PLAIN)],
    "one": [-INF, -INF, 0.25, -INF, -INF],
    "equal": [0.5] * 7,
    "steep": [30.0, 0.0, -30.0, 29.5, -200.0],
    "large": normal(2, 211, 4),
}
HISTORIES = {
    "none": ([3], 1),
    "short": ([3, 5, 3], 2),
    "long": ([3, 5, 2, 7, 3, 5, 2, 0, 7, 3, 5], 4),
    "every": (list(range(17)), 3),
    "same": ([4, 4, 4, 4], 1),
}
BIAS = {"0": 2.5, "3": -INF, "5": -1.75, "16": 0.5}
ALL = {
    "temperature": 0.8, "topK": 12, "topP": 0.9, "minP": 0.02, "typicalP": 0.8, "repetitionPenalty": 1.3, "noRepeatNgramSize": 3,
    "minNewTokens": 9, "logitBias": {"0": 2.5, "5": -1.75, "16": 0.5},
}
END = [5, 11]

# row, history, options, whether the caller's own processor (plus id % 3) takes part
CASES = [
    *[("plain", "long", {"repetitionPenalty": p}) for p in (1.0, 1.3, 0.7)],
    ("masked", "long", {"repetitionPenalty": 1.3}), ("equal", "same", {"repetitionPenalty": 2.0}), ("ties", "short", {"repetitionPenalty": 1.5}),
    *[("plain", "long", {"noRepeatNgramSize": n}) for n in (1, 2, 3, 4, 11, 12)],
    ("plain", "short", {"noRepeatNgramSize": 5}), ("plain", "none", {"noRepeatNgramSize": 1}), ("plain", "none", {"noRepeatNgramSize": 2}),
    ("equal", "same", {"noRepeatNgramSize": 2}), ("plain", "every", {"noRepeatNgramSize": 1}), ("masked", "every", {"noRepeatNgramSize": 1}),
    *[("plain", "long", {"minNewTokens": n}) for n in (6, 7, 8)],
    ("plain", "none", {"minNewTokens": 1}), ("plain", "long", {"logitBias": BIAS}), ("masked", "none", {"logitBias": {"1": 4.0, "2": 1.0}}),
    *[(row, "none", {"temperature": t}) for row in ("plain", "masked") for t in (1.0, 0.6, 1.7)],
    *[(row, "none", {"temperature": 1.0, "topK": k}) for row in ("plain", "ties", "masked", "one", "equal") for k in (1, 2, 4, 99)],
    *[(row, "none", {"temperature": 1.0, "topP": p}) for row in ("plain", "ties", "masked", "one", "equal", "steep", "large") for p in (1e-6, 0.35, 0.95, 1.0)],
    *[(row, "none", {"temperature": 1.0, "minP": p}) for row in ("plain", "ties", "masked", "one", "equal", "steep") for p in (0.0, 0.07, 1.0)],
    *[(row, "none", {"temperature": 1.0, "typicalP": p}) for row in ("plain", "ties", "masked", "one", "equal", "steep", "large") for p in (1e-6, 0.3, 0.9, 1.0)],
    *[(row, "long", ALL) for row in ("plain", "masked", "large")],
    ("plain", "long", {name: ALL[name] for name in ("repetitionPenalty", "noRepeatNgramSize", "minNewTokens", "logitBias")}),
    ("large", "none", {"temperature": 0.5, "topK": 40, "topP": 0.8}), ("large", "none", {"temperature": 1.6, "topP": 0.9, "minP": 0.05}),
    ("large", "none", {"temperature": 1.2, "topK": 60, "typicalP": 0.7}), ("large", "none", {"temperature": 1.2, "minP": 0.01, "typicalP": 0.5}),
]
OWN = [("plain", "long", ALL), ("large", "long", ALL), ("plain", "short", {"repetitionPenalty": 1.3}), ("plain", "none", {"temperature": 0.5, "topK": 3})]


class PlusIdMod3(LogitsProcessor):
    def __call__(self, input_ids, scores):
        return scores + torch.arange(scores.shape[-1], dtype=scores.dtype) % 3


def processors(options, vocab, prompt_length, own):
    config = LlamaConfig(vocab_size=vocab, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, eos_token_id=END)
    model = LlamaForCausalLM(config)
    values = {NAMES[name]: value for name, value in options.items() if name in NAMES}
    if "logitBias" in options:
        values["sequence_bias"] = [[[int(id)], value] for id, value in options["logitBias"].items()]
    generation = GenerationConfig(**{**OFF, **values, "do_sample": "temperature" in options, "eos_token_id": END})
    model._prepare_special_tokens(generation, device="cpu")
    custom = LogitsProcessorList([PlusIdMod3()] if own else [])
    return model._get_logits_processor(generation, input_ids_seq_length=prompt_length, logits_processor=custom, device="cpu", model_kwargs={})


def case(row, history, options, own=False):
    logits, (tokens, prompt_length) = ROWS[row], HISTORIES[history]
    ids = torch.tensor([tokens])
    run = processors(options, len(logits), prompt_length, own)
    output = run(ids, torch.tensor([logits], dtype=torch.float32))[0]
    exact = run(ids, torch.tensor([logits], dtype=torch.float64))[0]
    assert torch.equal(output == -INF, exact == -INF), "a border that depends on rounding"
    written = {name: plain(value) if name == "logitBias" else value for name, value in options.items()}
    return {
        "row": row, "history": history, "options": written, **({"own": True} if own else {}), **({"ties": True} if "topP" in options and row in ("ties", "equal") else {}),
        "output": [None if value == -INF else float(f"{value:.7g}") for value in output.tolist()],
    }


def plain(bias):
    return {id: None if value == -INF else value for id, value in bias.items()}


def main(out):
    torch.set_num_threads(1)
    rows = {name: [None if value == -INF else value for value in row] for name, row in ROWS.items()}
    histories = {name: {"tokens": tokens, "promptLength": length} for name, (tokens, length) in HISTORIES.items()}
    cases = [case(*row) for row in CASES] + [case(*row, own=True) for row in OWN]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "processors.json", {
        "versions": versions("torch", "transformers"), "endTokenIds": END, "rows": rows, "histories": histories, "cases": cases,
    })


main(Path(sys.argv[1]))
