"""Makes test/golden/generation/batched.json, and smollm2.json where its file is given: batched greedy decoding, log probabilities and
beam search by transformers, on the tiny checkpoints of test/golden and on SmolLM2-135M-Instruct (Q4_1 GGUF, dequantised to f32).

Prompts of different lengths are padded on the left, as transformers wants it. Kept are only cases that float32 and float64 agree on and
whose greedy margins are clear, so that the rounding of a correct program cannot change them.

Usage: python batched_generation.py GOLDEN [GGUF_FILE]        # GOLDEN is test/golden
"""

import math
import sys
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from golden_io import versions, write_json

MODELS = ["tiny-llama/gqa-tied", "tiny-llama/mqa", "tiny-mistral/window", "tiny-gemma2/plain"]
LENGTHS, NEW, TOP = (3, 17, 1, 9, 12), 20, 5
MIN_MARGIN = 1e-2
# numBeams, n, lengthPenalty, earlyStopping, how many end tokens
BEAMS = [(2, 1, 1.0, False, 0), (3, 3, 1.0, False, 3), (4, 2, 0.0, False, 4), (3, 3, 2.0, True, 3), (5, 5, -1.0, False, 6), (4, 4, 1.0, True, 8)]


def padded(prompts):
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    return dict(input_ids=ids, attention_mask=mask)


def generate(model, prompts, **options):
    return model.generate(**padded(prompts), pad_token_id=0, return_dict_in_generate=True, do_sample=False, max_new_tokens=NEW,
                          use_cache=True, **options)


def first_prompt(vocab, length, seed, accept):
    """The first random prompt that `accept` takes."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(200):
        prompt = torch.randint(3, vocab, (length,), generator=generator).tolist()
        if accept(prompt):
            return prompt
    raise SystemExit(f"no prompt of {length} tokens found")


def greedy(model, prompts):
    out = generate(model, prompts, output_logits=True, eos_token_id=None)
    return out.sequences[:, -NEW:], torch.stack(out.logits, 1)  # [B, NEW], [B, NEW, V]


def greedy_case(model, vocab):
    def is_clear(prompt):
        top = greedy(model, [prompt])[1].topk(2).values
        return (top[..., 0] - top[..., 1]).min() > MIN_MARGIN

    prompts = [first_prompt(vocab, length, length, is_clear) for length in LENGTHS]
    tokens, logits = greedy(model, prompts)
    assert all(greedy(model, [prompt])[0][0].tolist() == row.tolist() for prompt, row in zip(prompts, tokens))
    logprobs = logits.log_softmax(-1)
    best = logprobs.topk(TOP)
    return dict(
        prompts=prompts, tokens=tokens.tolist(),
        logprobs=logprobs.gather(-1, tokens[..., None])[..., 0].tolist(),
        topIds=best.indices.tolist(), topLogprobs=best.values.tolist(),
    )


def beams(model, prompts, ends, case):
    num_beams, n, length_penalty, early_stopping, _ = case
    out = generate(model, prompts, num_beams=num_beams, num_return_sequences=n, length_penalty=length_penalty,
                   early_stopping=early_stopping, eos_token_id=ends or None, output_scores=True)
    rows = [row[-(out.sequences.shape[1] - max(map(len, prompts))):].tolist() for row in out.sequences]
    results = []
    for row, score in zip(rows, out.sequences_scores.tolist()):
        end = next((i for i, token in enumerate(row) if token in ends), None)
        results.append(dict(tokens=row[:end], finishReason="length" if end is None else "stop", score=score))
    return [results[i * n:(i + 1) * n] for i in range(len(prompts))]


def beam_case(model, exact, vocab, index, case):
    num_beams, n, length_penalty, early_stopping, num_ends = case
    same = lambda a, b: all(x["tokens"] == y["tokens"] and math.isclose(x["score"], y["score"], rel_tol=1e-5) for x, y in zip(a, b))
    for attempt in range(20):
        ends = torch.randperm(vocab - 3, generator=torch.Generator().manual_seed(100 * index + attempt)).add(3)[:num_ends].tolist()
        is_clear = lambda prompt: same(beams(model, [prompt], ends, case)[0], beams(exact, [prompt], ends, case)[0])
        prompts = [first_prompt(vocab, length, 100 * index + length, is_clear) for length in LENGTHS]
        # float32: padded rows are NaN in float64.
        results = beams(model, prompts, ends, case)
        assert all(same(beams(exact, [prompt], ends, case)[0], row) for prompt, row in zip(prompts, results))
        if not ends or any(result["finishReason"] == "stop" for row in results for result in row):
            return dict(prompts=prompts, stop=ends, numBeams=num_beams, n=n, lengthPenalty=length_penalty, earlyStopping=early_stopping, results=results)
    raise SystemExit(f"no end tokens found that end an answer: {case}")


def with_single_digits(tokenizer, gguf_file):
    """As in smollm2.py: the step that transformers' GGUF reader leaves out."""
    assert GGUFReader(gguf_file).fields["tokenizer.ggml.pre"].contents() == "smollm"
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer])
    return tokenizer


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def main(golden):
    models = {}
    for name in MODELS:
        load = lambda dtype: AutoModelForCausalLM.from_pretrained(golden / name, dtype=dtype, attn_implementation="eager").eval()
        model, exact = load(torch.float32), load(torch.float64)
        for each in (model, exact):
            each.generation_config = transformers.GenerationConfig()
        vocab = model.config.vocab_size
        models[name] = dict(greedy=greedy_case(model, vocab), beams=[beam_case(model, exact, vocab, i, case) for i, case in enumerate(BEAMS)])
        print(name)
    (golden / "generation").mkdir(exist_ok=True)
    write_json(golden / "generation" / "batched.json", dict(
        script="tools/golden/batched_generation.py", versions=versions("torch", "transformers"), maxNewTokens=NEW, models=models))


SENTENCES = [
    "Once upon a time", "The capital of France is", "1 2 3 4 5 6 7 8", "Water boils at", "A list of fruits: apple, banana,",
    "In the year 1969, the first human being set foot on the", "def add(a, b):", "Roses are red, violets are", "The opposite of hot is",
    "My favourite season is autumn, because the leaves turn red and the air", "Q: What is 2 + 2?\nA:", "Monday, Tuesday, Wednesday,",
    "To make tea, first boil the water, then", "The sun rises in the east and", "Dear Sir or Madam,", "She opened the door and",
]


@torch.no_grad()
def smollm2(gguf, golden):
    source = dict(pretrained_model_name_or_path=str(gguf.parent), gguf_file=gguf.name)
    load = lambda attention: AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, attn_implementation=attention).eval()
    model, other = load("eager"), load("sdpa")
    for each in (model, other):
        each.generation_config = transformers.GenerationConfig()
    tokenizer = with_single_digits(AutoTokenizer.from_pretrained(**source), str(gguf))
    prompts = [encode(tokenizer, sentence) for sentence in SENTENCES]
    tokens, logits = greedy(model, prompts)
    top = logits.topk(2).values
    margins = (top[..., 0] - top[..., 1]).amin(-1).tolist()
    logprobs = logits.log_softmax(-1)
    ends = [tokenizer.eos_token_id, *encode(tokenizer, ".")]
    case = (4, 2, 1.0, False, len(ends))
    found, again = (beams(each, prompts[:6], ends, case) for each in (model, other))
    answers = lambda results: [result["tokens"] for result in results]
    agreed = [i for i, results in enumerate(found) if answers(results) == answers(again[i])]
    write_json(golden / "generation" / "smollm2.json", dict(
        script="tools/golden/batched_generation.py", versions=versions("torch", "transformers", "gguf"), file=gguf.name, maxNewTokens=NEW,
        greedy=dict(prompts=prompts, margins=margins, tokens=tokens.tolist(), logprobs=logprobs.gather(-1, tokens[..., None])[..., 0].tolist()),
        beams=dict(prompts=[prompts[i] for i in agreed], stop=ends, numBeams=4, n=2, results=[found[i] for i in agreed])))
    print(len(agreed), "prompts with clear beams, margins", [round(m, 3) for m in margins])


transformers.utils.logging.set_verbosity_error()
torch.set_num_threads(1)
main(Path(sys.argv[1]))
if len(sys.argv) > 2:
    smollm2(Path(sys.argv[2]), Path(sys.argv[1]))
