"""How llama.cpp cuts texts for every name that `tokenizer.ggml.pre` may have: its table, read out of
llama-vocab.cpp, run by its own unicode.cpp. Needs a C++ compiler, `tokenizers`, and llama.cpp's sources (the
source package of llama-cpp-python holds them).

Run: python tools/golden/pre_tokenizers_llama_cpp.py LLAMA_CPP/src VERSION     (writes test/golden/tokenizers/pre-tokenizers.json)
"""

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version as tokenizers_version
from pathlib import Path

TEXTS = [
    "Hello world, it's 3 33 333 3333 33333 333333 3333333 33333333.",
    "I'VE GOT'em  don't   WE'LL\n\n\n  indented\r\n\tTabs\t\there ",
    "3.14159 1,000,000 a1b22c333 ٣٤٥ x² ½",
    "camelCase HTTPServer éÀ ÀÉa ǅab naïve e\u0301a",
    "你好,世界!123 日本語テキスト カタカナ ひらがな 한국어 텍스트 ㄅㄆ",
    "Привет, мир! Ελληνικά שלום مرحبا नमस्ते दुनिया ไทย ລາວ",
    "a-b_c/d\\e (f) [g] {h} <i> =+*&^%$#@!~`|;:\"'?..., ...",
    "😀👍🏽 x😀y 🇫🇮",
    "foo\u00a0bar\u3000baz　。、！「引用」…—“q”",
    "def f(x):\n    return x**2  # comment\n\n\nclass A:\n",
    "/path//to/\n\n//x\n",
    "'s 't 'd 'LL x'S",
    " ", "\n", "  \n ",
]


CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
BEFORE, UPPER, LOWER = r"[^\r\n\p{L}\p{N}]?", r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def o200k(suffix, digits, but="", slash="/"):
    return (f"{BEFORE}[{UPPER}{but}]*[{LOWER}{but}]+{suffix}|{BEFORE}[{UPPER}{but}]+[{LOWER}{but}]*{suffix}|{digits}"
            rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n{slash}]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# Where llama.cpp only comes near what a tokenizer.json says (its comments name the original): the original,
# run by Rust `tokenizers`.
ORIGINALS = {
    "GPT4O": [o200k(CONTRACTION + "?", r"\p{N}{1,3}")],
    "MINIMAX_M2": [o200k(CONTRACTION + "?", r"\p{N}{1,3}")],
    "GRANITE_EMB_MULTI": [o200k(CONTRACTION + "?", r"\p{N}{1,3}")],
    "TINY_AYA": [r"\d{1,3}(?=(?:\d{3})*\b)", o200k(CONTRACTION + "?", r"\p{N}{1,3}")],
    "TEKKEN": [o200k("", r"\p{N}")],
    "YOUTU": ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", o200k(CONTRACTION + "?", r"\p{N}")],
    "KIMI_K2": [r"[\p{Han}]+|" + o200k(CONTRACTION + "?", r"\p{N}{1,3}", r"&&[^\p{Han}]", "")],
    # Spaces outside of ASCII fall out of its character ranges.
    "DEEPSEEK_LLM": None,
    "DEEPSEEK_CODER": None,
}


def by_rust(regexes):
    from tokenizers import Regex, pre_tokenizers

    steps = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in regexes]
    cut = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return [[word for word, _ in cut.pre_tokenize_str(text)] for text in TEXTS]


def plain(literal):
    """The text of a C string literal."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], found[1]), literal[1:-1])


def main():
    source, version = Path(sys.argv[1]), sys.argv[2]
    code = (source / "llama-vocab.cpp").read_text(encoding="utf-8")
    table = code[code.index("struct llm_tokenizer_bpe : llm_tokenizer"):code.index("std::vector<std::string> regex_exprs;")]
    regexes = {}
    for block in table.split("break;"):
        block = re.sub(r"^\s*//.*$", "", block, flags=re.M)
        kinds = re.findall(r"case LLAMA_VOCAB_PRE_TYPE_(\w+):", block) or (["DEFAULT"] if "default:" in block else [])
        found = re.search(r"regex_exprs = \{(.*)\};", block, flags=re.S)
        if found:
            listed = re.findall(r'^\s*("(?:[^"\\]|\\.)*"),', found[1], flags=re.M)
            regexes.update({kind: (listed, "byte_encode = false" not in block) for kind in kinds})
    names = {"default": "DEFAULT"}
    load = code[code.index('tokenizer_pre == "default"'):code.index("unknown pre-tokenizer type")]
    for condition, kind in re.findall(r"if \(([^{]*?)\) \{\s*pre_type = LLAMA_VOCAB_PRE_TYPE_(\w+);", load):
        names.update({name: kind for name in re.findall(r'tokenizer_pre == "([^"]+)"', condition)})
    byte_level = {name: kind for name, kind in names.items() if regexes[kind][1]}
    kinds = sorted(set(byte_level.values()))
    cpp = ['#include "unicode.h"', "#include <cstdio>", "#include <stdexcept>", "int main() {", " std::vector<std::string> texts = {"]
    cpp += ["  " + c_string(text) + "," for text in TEXTS] + [" };"]
    for kind in kinds:
        cpp.append(f' std::printf("{kind}\\n");')
        cpp.append(f" for (auto & t : texts) try {{ for (auto & w : unicode_regex_split(t, {{ {', '.join(regexes[kind][0])} }}, true)) std::printf(\"%s \", w.c_str()); std::printf(\"\\n\"); }} catch (const std::exception & error) {{ std::printf(\"!%s\\n\", error.what()); }}")
    cpp.append("}")
    with tempfile.TemporaryDirectory() as folder:
        main_cpp = Path(folder) / "main.cpp"
        main_cpp.write_text("\n".join(cpp), encoding="utf-8")
        subprocess.run(["g++", "-std=c++17", "-O0", f"-I{source}", str(main_cpp), str(source / "unicode.cpp"), str(source / "unicode-data.cpp"), "-o", f"{folder}/main"], check=True)
        lines = subprocess.run([f"{folder}/main"], check=True, capture_output=True, text=True).stdout.split("\n")
    words = {}
    for at in range(0, len(lines) - 1, len(TEXTS) + 1):
        words[lines[at]] = [line.split() for line in lines[at + 1:at + 1 + len(TEXTS)]]
    for kind, original in ORIGINALS.items():
        words[kind] = by_rust(original or [plain(regex) for regex in regexes[kind][0]])
    out = Path(__file__).parents[2] / "test/golden/tokenizers/pre-tokenizers.json"
    data = {"made_by": "tools/golden/pre_tokenizers_llama_cpp.py", "versions": {"llama.cpp": version, "tokenizers": tokenizers_version("tokenizers")}, "by_tokenizers": sorted(ORIGINALS), "texts": TEXTS,
            "names": byte_level, "not_byte_level": sorted(set(names) - set(byte_level))}
    body = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, ensure_ascii=False)}" for k, v in data.items())
    rows = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, ensure_ascii=False, separators=(',', ':'))}" for k, v in words.items())
    out.write_text("{" + body + ',\n"words":{\n' + rows + "\n}}\n", encoding="utf-8")
    print(len(names), "names", len(kinds), "ways", out.stat().st_size, "bytes")


def c_string(text):
    return '"' + "".join(f"\\{b:03o}" for b in text.encode()) + '"'


main()
