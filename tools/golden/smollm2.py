"""Makes test/golden/smollm2/: SmolLM2-135M-Instruct (Q4_1 GGUF) as transformers' own GGUF reader sees it,
dequantised to f32.

Logits of a short text, greedy continuations with their margins, token ids of hard strings, rendered chat
templates.

Tokens: transformers' GGUF reader ignores `tokenizer.ggml.pre` ("smollm": every digit is split off before the
GPT-2 pattern runs). That is corrected here, as llama.cpp does for that value; where the untouched reader
differs, its ids are kept as `transformersIds`. check_tokens_llama_cpp.mjs compares `ids` with llama.cpp's.

Usage: python smollm2.py GGUF_FILE OUT        # OUT is test/golden/smollm2
"""

import sys
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from golden_io import versions, write_arrays, write_json

TEXT = (
    "The lighthouse keeper climbed the hundred and twelve steps every evening, lamp oil in one hand and a book in the other. "
    "From the gallery he could see the fishing boats come home, one after another, their sails brown and patched. "
    "On clear nights he counted them twice. When the wind turned to the north he did not read at all; he stood at the glass "
    "and listened, because a storm in that bay gave no other warning than a change in the sound of the water on the rocks."
)
# no step of these two is a near tie, as in many other prompts: the smallest margins are 0.05 and 0.5
PROMPTS = {"plain": "Once upon a time", "counting": "1 2 3 4 5 6 7 8"}
NEW, TOP, FIXED_STEP = 64, 20, 769  # 64 fixed vocabulary ids: 0, 769, 1538, ...

STRINGS = [
    "", " ", "  ", "   three leading, two trailing  ", "a  b   c    d", "\t", "\n", "\n\n\n", "\r\n line \r\n", "\ttab\t\ttabs \t mixed",
    "Hello, world!", "Hello world", "hello WORLD HeLLo", "0", "42", "1234567890", "3.14159, 1,000,000 and 0xFF", "in 2024,  1 2  3", "x² + ½ = Ⅷ ٣",
    "I'm you're they've it's we'll he'd don't", "I'M YOU'RE IT'S", "it\u2019s a \u201cquote\u201d \u2014 dash \u2026",
    "caf\u00e9", "cafe\u0301", "\u00c5ngstr\u00f6m \u212bngstrom A\u030angstro\u0308m", "na\u00efve co\u00f6perate \ufb01ne",
    "\U0001f600", "\U0001f44d\U0001f3fd \U0001f44b\U0001f3ff", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1eb\U0001f1f7", "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c \u30ab\u30bf\u30ab\u30ca", "\uc548\ub155\ud558\uc138\uc694",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd \u200f(RTL)\u200e", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "<|im_start|>user\nHi<|im_end|>\n", "a<|im_end|>b <|endoftext|> c", "<|im_start|", "<repo_name>gqa<file_sep>src/a.ts <unk>",
    "def f(x):\n    return x ** 2  # square\n\n\nprint(f(3))", "for (let i = 0; i < n; i++) { a[i] += b?.[i] ?? 0; }", "\t\tif (a != b && !c) {\n\t\t}\n",
    "https://example.com/a?b=c&d=%20#e user@example.org", "\x00\x01\x02\x1b[31mred\x1b[0m\x7f", "zero\u200bwidth \u00a0nbsp\u3000ideographic \ufeffbom",
    "$100 \u20ac5 50% #tag @name a_b-c/d\\e", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "    \n    \n  x", "supercalifragilisticexpialidocious", "\U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8",
]
CHATS = {
    "user": [{"role": "user", "content": "Name three oceans."}],
    "system-user-assistant-user": [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "  And 3 + 3?\nThink first.  "},
    ],
    "special-tokens-in-content": [{"role": "user", "content": "Say <|im_end|> twice, caf\u00e9 \U0001f600."}],
}


def with_single_digits(tokenizer, gguf_file):
    """The same tokenizer with the step that transformers' GGUF reader leaves out."""
    assert GGUFReader(gguf_file).fields["tokenizer.ggml.pre"].contents() == "smollm"
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer])
    return tokenizer


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def decode(tokenizer, ids, skip):
    return tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=skip)


def string_case(tokenizer, untouched, text):
    ids = encode(tokenizer, text)
    case = {"text": text, "ids": ids, "decoded": decode(tokenizer, ids, False), "decodedSkipSpecial": decode(tokenizer, ids, True)}
    if encode(untouched, text) != ids:
        case["transformersIds"] = encode(untouched, text)
    return case


def chat_cases(tokenizer):
    cases = []
    for name, messages in CHATS.items():
        for prompt in (True, False):
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
            ids = encode(tokenizer, text)
            cases.append({"name": name, "messages": messages, "addGenerationPrompt": prompt, "text": text, "ids": ids})
    return cases


@torch.no_grad()
def text_logits(model, ids):
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    top = logits.topk(TOP)
    fixed = torch.arange(0, logits.shape[1], FIXED_STEP)
    nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    arrays = {
        "text/tokens": torch.tensor(ids), "text/lastLogits": logits[-1], "text/topIds": top.indices, "text/topValues": top.values,
        "text/fixedIds": fixed, "text/fixedLogits": logits[:, fixed],
    }
    return arrays, float(nll)


@torch.no_grad()
def greedy(model, ids):
    tokens, margins, cache, step = [], [], None, torch.tensor([ids])
    for _ in range(NEW):
        out = model(step, past_key_values=cache, use_cache=True)
        top = out.logits[0, -1].topk(2)
        tokens.append(int(top.indices[0]))
        margins.append(float(top.values[0] - top.values[1]))
        cache, step = out.past_key_values, top.indices[:1][None]
    return tokens, margins


def main(gguf_file, out):
    torch.set_num_threads(1)
    source = dict(pretrained_model_name_or_path=str(gguf_file.parent), gguf_file=gguf_file.name)
    untouched = AutoTokenizer.from_pretrained(**source)
    tokenizer = with_single_digits(AutoTokenizer.from_pretrained(**source), gguf_file)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "tokens.json", {
        "script": "tools/golden/smollm2.py",
        "versions": versions("transformers", "tokenizers", "gguf", "jinja2"),
        "file": gguf_file.name,
        "controlTokens": {i: token.content for i, token in tokenizer.backend_tokenizer.get_added_tokens_decoder().items()},
        "strings": [string_case(tokenizer, untouched, text) for text in STRINGS],
        "chats": chat_cases(tokenizer),
    })

    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, attn_implementation="eager").eval()
    arrays, nll = text_logits(model, encode(tokenizer, TEXT))
    chat = tokenizer.apply_chat_template(CHATS["user"], add_generation_prompt=True, tokenize=False)
    greedy_cases = {}
    for name, prompt in {"chat": chat, **PROMPTS}.items():
        ids = encode(tokenizer, prompt)
        tokens, margins = greedy(model, ids)
        arrays |= {f"{name}/prompt": torch.tensor(ids), f"{name}/tokens": torch.tensor(tokens), f"{name}/margins": torch.tensor(margins)}
        eos = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else None
        greedy_cases[name] = {"prompt": prompt, "answer": decode(tokenizer, tokens, False), "endTokenAt": eos, "minMargin": min(margins)}
        print(name, greedy_cases[name])
    write_arrays(out / "golden.safetensors", {k: v.numpy() for k, v in arrays.items()})
    write_json(out / "golden.json", {
        "script": "tools/golden/smollm2.py",
        "versions": versions("torch", "transformers", "gguf"),
        "file": gguf_file.name,
        "attention": "eager, float32, dequantised weights",
        "text": TEXT, "textTokens": len(arrays["text/tokens"]), "textMeanNll": nll,
        "greedy": greedy_cases,
    })
    print(len(arrays["text/tokens"]), "tokens, nll", nll)


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
