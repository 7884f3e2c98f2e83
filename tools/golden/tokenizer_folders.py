"""Ids of transformers' AutoTokenizer for folders whose special tokens stand in several files, and for folders
of vocab.json and merges.txt.

Run: python tools/golden/tokenizer_folders.py     (writes test/golden/tokenizers/folders.json)
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import tokenizers
import transformers
from transformers import AutoTokenizer

LETTERS = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzXY<>|_ []/")}
SIZE = len(LETTERS)


def token(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}


def tokenizer_json(*added, **parts):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": LETTERS, "merges": []}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [{"id": SIZE + i, **t} for i, t in enumerate(added)],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Fuse"}, "model": model, **parts}


def folder(config=None, json=None, special=None, added=None):
    files = {"tokenizer.json": json or tokenizer_json(), "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **(config or {})}}
    if special is not None:
        files["special_tokens_map.json"] = special
    if added is not None:
        files["added_tokens.json"] = added
    return files


def object_token(content, **flags):
    return {"__type": "AddedToken", "content": content, "lstrip": False, "rstrip": False, "normalized": True, "single_word": False, **flags}


TEXTS = ["a<x>b <y>  c<z> d", "<m>a <m> <X>", "a<x><y><z>"]
FOLDERS = {
    "no special tokens": folder(),
    "additional_special_tokens": folder({"additional_special_tokens": ["<x>", "<y>"]}),
    "extra_special_tokens as a list": folder({"extra_special_tokens": ["<y>", "<x>"]}),
    "extra_special_tokens as a table": folder({"extra_special_tokens": {"image_token": "<x>", "audio_token": "<z>"}}),
    "both lists": folder({"additional_special_tokens": ["<x>"], "extra_special_tokens": ["<y>"]}),
    "a name of its own": folder({"image_token": "<x>", "boi_token": "<z>"}),
    "all seven names": folder({"mask_token": "<m>", "sep_token": "<x>", "cls_token": "<y>", "bos_token": "<z>", "eos_token": "<X>", "unk_token": "<u>", "pad_token": "<p>"}),
    "a name with flags": folder({"mask_token": object_token("<m>", lstrip=True), "eos_token": "<x>"}),
    "a list with flags": folder({"additional_special_tokens": [object_token("<x>", rstrip=True), object_token("<y>", lstrip=True)]}),
    "added_tokens_decoder": folder({"added_tokens_decoder": {"50": token("<x>"), "40": token("<y>", special=False), "45": token("<z>", lstrip=True)}}),
    "added_tokens_decoder changes flags": folder({"added_tokens_decoder": {str(SIZE): token("<x>", rstrip=True), str(SIZE + 1): token("<y>", special=False, lstrip=True)}},
                                                 tokenizer_json(token("<x>", special=False), token("<y>"))),
    "a named token that is not special": folder({"eos_token": "<y>"}, tokenizer_json(token("<x>", special=False), token("<y>", special=False))),
    "a letter as eos": folder({"eos_token": "b"}),
    "special_tokens_map": folder(special={"eos_token": "<x>", "additional_special_tokens": ["<y>"], "mask_token": {"content": "<m>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}}),
    "special_tokens_map beside a list": folder({"extra_special_tokens": ["<z>"]}, special={"extra_special_tokens": ["<y>", "<z>"], "additional_special_tokens": ["<x>"]}),
    "special_tokens_map beside added_tokens_decoder": folder({"added_tokens_decoder": {}}, special={"eos_token": "<x>"}),
    "special_tokens_map without a config": {"tokenizer.json": tokenizer_json(), "special_tokens_map.json": {"eos_token": "<x>"}},
    "added_tokens": folder({"eos_token": "<y>"}, added={"<y>": SIZE + 2, "<x>": SIZE + 1, "<z>": SIZE + 3}),
    "added_tokens beside a normalizer": folder({}, tokenizer_json(normalizer={"type": "Lowercase"}), added={"<X>": 60, "<Y>": 61}),
    "added_tokens that tokenizer.json has": folder({}, tokenizer_json(token("<x>")), added={"<x>": SIZE, "<y>": SIZE + 1}),
    "split_special_tokens": folder({"split_special_tokens": True}, tokenizer_json(token("<x>"), token("<y>", special=False))),
}

BYTE_LETTERS = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "' s", "Ġ a", "1 2", "12 3", "Ġ Ġ", "Ċ Ċ", "Ã ©"]
VOCAB = {text: i for i, text in enumerate(["<s>", "<pad>", "</s>", "<unk>", *BYTE_LETTERS, *[m.replace(" ", "") for m in MERGES], "<mask>", "<|endoftext|>"])}
BYTE_TEXTS = ["the in the's 123 IT'S", " the\n\n a  b", "caf\u00e9 cafe\u0301 12345", "a<mask> <|endoftext|><s>b<|im_end|>"]


def vocab_folder(config, model_type=None, **files):
    merges = "#version: 0.2\n" + "\n".join(MERGES) + "\n"
    out = {"vocab.json": VOCAB, "merges.txt": merges, "tokenizer_config.json": config, **files}
    if model_type:
        out["config.json"] = {"model_type": model_type}
    return out


VOCAB_FOLDERS = {
    "GPT2Tokenizer": vocab_folder({"tokenizer_class": "GPT2Tokenizer"}),
    "GPT2TokenizerFast with a space in front": vocab_folder({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}),
    "GPT2Tokenizer with bos": vocab_folder({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}),
    "GPT2Tokenizer with more tokens": vocab_folder({"tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"},
                                                   **{"added_tokens.json": {"<|im_end|>": len(VOCAB)}, "special_tokens_map.json": {"additional_special_tokens": ["<|im_end|>"]}}),
    "gpt2 by its model": vocab_folder({}, "gpt2"),
    "RobertaTokenizer": vocab_folder({"tokenizer_class": "RobertaTokenizer"}),
    "RobertaTokenizer with a space in front": vocab_folder({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True, "mask_token": object_token("<mask>", lstrip=True, normalized=False)}),
    "Qwen2Tokenizer": vocab_folder({"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": ["<|im_end|>"]}),
    "Qwen2Tokenizer with eos": vocab_folder({"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|im_end|>", "add_eos_token": True}),
}


def run(files, texts):
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        tokenizer = AutoTokenizer.from_pretrained(directory)
        rows = []
        for text in texts:
            ids = tokenizer(text).input_ids
            rows.append([text, ids, tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=True)])
        return rows


def main():
    cases = [{"name": name, "files": files, "rows": run(files, texts)} for folders, texts in ((FOLDERS, TEXTS), (VOCAB_FOLDERS, BYTE_TEXTS)) for name, files in folders.items()]
    for case in cases:
        for name, shared in (("vocab.json", VOCAB),):
            if name in case["files"]:
                case["files"] = {**case["files"], name: "shared"}
    out = Path(__file__).parents[2] / "test/golden/tokenizers/folders.json"
    head = {"made_by": "tools/golden/tokenizer_folders.py", "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}, "vocab": VOCAB}
    lines = [f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    rows = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    out.write_text("{" + ",\n".join(lines) + ',\n"cases":[\n' + rows + "\n]}\n", encoding="utf-8")
    print(len(cases), "cases", out.stat().st_size, "bytes")


main()
