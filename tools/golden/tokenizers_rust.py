"""Ids and texts of Rust `tokenizers` for small tokenizer.json files, one for each component and option that
this package reads.

Run: python tools/golden/tokenizers_rust.py     (writes test/golden/tokenizers/pipelines.json)
     python tools/golden/tokenizers_rust.py --random 3000 out.json     (many random pipelines, for a search by hand)
"""

import itertools
import json
import random
import sys
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer

TEXTS = [
    "",
    "a",
    " ab  abc ",
    "Hello, World! It's 123 4567 x²½ ٣",
    "a_b-c--d.e..f",
    "<x><y> a<x>b <y>  c<x> <z>z<z> z_<z>",
    "éà ǅ İΣ ΑΣ. café cafe\u0301 ﬁ ﷺ",
    "देवनागरी क्षेत्र 中文字 かな 한글",
    "\t\n\r\n a\u0085b\u00a0c\u2003d\u200de\ufefff",
    "▁a ▁▁b a▁b",
    "😀👍🏽 𝒜𐍈x",
    "QQ qQq qabQc QQQabQ",
    "ababab aabbaabb abcabcabc",
    "'s 'S it's IT'S 'ſ",
]

LETTERS = list("abcdefghijklmnopqrstuvwxyz ABCDEFHILMNOPRSTWX0123456789.,!'-_<>▁é中字क\n\t")


def bpe(letters, seed, merges=60, **options):
    """A vocabulary of letters and random merges of what is there."""
    rng = random.Random(seed)
    prefix, suffix = options.get("continuing_subword_prefix"), options.get("end_of_word_suffix")
    vocab = {}
    for letter in letters:
        for text in [letter, *([prefix + letter] if prefix else []), *([letter + suffix] if suffix else [])]:
            vocab.setdefault(text, len(vocab))
        if prefix and suffix:
            vocab.setdefault(prefix + letter + suffix, len(vocab))
    for extra in options.pop("extra", []):
        vocab.setdefault(extra, len(vocab))
    pairs = []
    common = [t for t in vocab if t.strip("▁ #/w@<>").lower() in set("abceiloqst<>")] or list(vocab)
    while len(pairs) < merges:
        left, right = rng.choice(common), rng.choice(common)
        if prefix and not right.startswith(prefix):
            continue
        if suffix and left.endswith(suffix):
            continue
        merged = left + (right[len(prefix):] if prefix else right)
        if [left, right] in pairs or len(merged) > 9:
            continue
        pairs.append([left, right])
        vocab.setdefault(merged, len(vocab))
        common.append(merged)
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **options, "vocab": vocab, "merges": pairs}


BYTE_LETTERS = [tokenizers.pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(bytes([b]).decode("latin-1"))[0][0][-1]
                for b in range(256)]
ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def models():
    pieces = [["<unk>", 0.0], *[[c, -3.0 - i / 50] for i, c in enumerate(LETTERS[:60])], ["▁", -2.0], ["ab", -3.5], ["abc", -4.0],
              ["▁a", -3.2], ["bc", -3.9], ["▁ab", -5.0], ["aba", -4.5], ["中文", -6.0], ["it", -5.5], ["😀", -4.0]]
    words = {t: i for i, t in enumerate(["[UNK]", "a", "##b", "##c", "ab", "##abc", "hello", "Hello", "world", "##s", "##ab", "中", "Q",
                                         ",", "!", "'", "123", "x", "##x", "_", "it", "##it", "abab"])}
    return {
        "bytes": bpe(ALPHABET, 1),
        "bytes-whole-words": bpe(ALPHABET, 2, ignore_merges=True, extra=["Ġabc", "abcab", "Hello", "aabbaabb"]),
        "letters": bpe(LETTERS, 3),
        "unknown": bpe(LETTERS[:30], 4, unk_token="<unk>", extra=["<unk>"]),
        "unknown-fused": bpe(LETTERS[:30], 5, unk_token="<unk>", fuse_unk=True, extra=["<unk>"]),
        "byte-fallback": bpe(LETTERS, 6, byte_fallback=True, unk_token="<unk>", fuse_unk=True, extra=["<unk>", *BYTES]),
        "some-bytes": bpe(LETTERS, 7, byte_fallback=True, unk_token="<unk>", fuse_unk=True, extra=["<unk>", *BYTES[:200]]),
        "prefix": bpe(LETTERS, 8, continuing_subword_prefix="##", unk_token="<unk>", extra=["<unk>"]),
        "suffix": bpe(LETTERS, 9, end_of_word_suffix="</w>", unk_token="<unk>", extra=["<unk>"]),
        "prefix-suffix": bpe(LETTERS[:40], 10, continuing_subword_prefix="@@", end_of_word_suffix="/w", unk_token="<unk>", extra=["<unk>"]),
        "unigram": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
        "unigram-bytes": {"type": "Unigram", "unk_id": 0, "vocab": [*pieces, *[[b, -20.0] for b in BYTES]], "byte_fallback": True},
        "word-piece": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 12, "vocab": words},
        "word-level": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": words},
    }


def token(content, **flags):
    return {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}


ADDED = [
    [],
    [token("<x>"), token("<y>", special=False)],
    [token("<x>", lstrip=True), token("<y>", rstrip=True), token("<z>", single_word=True)],
    [token("<x>", lstrip=True, rstrip=True), token("<z>z"), token("<z>", normalized=True, special=False), token("ab", single_word=True)],
    [token("<X>", normalized=True, special=False), token("<y> ", special=False), token("  ", special=False, rstrip=True), token("É", normalized=True, special=False)],
    [token("<x>"), token("<x><y>"), token("x><", special=False), token("中文", special=False, single_word=True)],
]


def seq(kind, *steps):
    return {"type": "Sequence", kind: list(steps)}


def replace(old, new, regex=False):
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": old}, "content": new}


NORMALIZERS = [
    None,
    *[{"type": form} for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]],
    *[{"type": "Strip", "strip_left": left, "strip_right": right} for left in (True, False) for right in (True, False)],
    {"type": "Prepend", "prepend": "▁"},
    replace(" ", "▁"), replace("a", "$&b"), replace("[aeiou]+", "<>", True), replace(r"\s+", " ", True), replace(r"(?<=a)b", "", True),
    seq("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
    seq("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": True, "strip_accents": True, "lowercase": False},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": False, "strip_accents": False, "lowercase": True},
    {"type": "ByteLevel"},
    seq("normalizers"),
]

BEHAVIORS = ["Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"]
REGEXES = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Ll}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+",
    r"\d{1,3}(?=(?:\d{3})*\b)", r"(?=(\d{3})+(?!\d))", r"\w+|[^\w\s]+", r"a*", r"(?:a|ab)(?:c|bcd)*", r"(a+)+$", r"(a|a)*b", r"(?>a+)b|b+?",
    r"(?<![a-z])[a-z]|(?<=\s)\S", r"\b\w|\B.", r"^.|.$", r"\Aa|[[:alpha:]&&[^a-c]]+", r"[^a-zA-Z\d\-]|-+", r"x{2,}|[ab]{1,2}?|a{,2}c|(?:ab){2}",
    r"[\u4e00-\u9fa5\x{3040}-\x{30ff}]+|\h\h|\H", r"(?i:[a-c]k|[^s])+", r"\P{L}+|\p{^Lu}",
]

PRE_TOKENIZERS = [
    None,
    *[{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex} for prefix in (True, False) for regex in (True, False)],
    *[{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split} for scheme in ("always", "first", "never") for split in (True, False)],
    {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
    *[{"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS],
    *[{"type": "Digits", "individual_digits": single} for single in (True, False)],
    {"type": "CharDelimiterSplit", "delimiter": "b"},
    *[{"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": invert}
      for text in ("a", " ", "ab") for behavior in BEHAVIORS for invert in (False, True)],
    *[{"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} for regex in REGEXES],
    *[{"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}
      for regex in (r"\s+", r"\p{L}+") for behavior in BEHAVIORS for invert in (False, True)],
    seq("pretokenizers", {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}),
    seq("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}),
    seq("pretokenizers", {"type": "Split", "pattern": {"Regex": REGEXES[1]}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}),
]

SPECIALS = {"<x>": {"id": "<x>", "ids": [7], "tokens": ["<x>"]}, "<q>": {"id": "<q>", "ids": [1, 2], "tokens": ["a", "b"]}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}
SPECIAL = [{"SpecialToken": {"id": name, "type_id": 0}} for name in SPECIALS]
PAIR = [TEXT, {"Sequence": {"id": "B", "type_id": 1}}]
POST_PROCESSORS = [
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    {"type": "TemplateProcessing", "single": [SPECIAL[0], TEXT, SPECIAL[1]], "pair": PAIR, "special_tokens": SPECIALS},
    {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]},
    {"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["b", 2], "trim_offsets": True, "add_prefix_space": False},
    seq("processors", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        {"type": "TemplateProcessing", "single": [SPECIAL[1], TEXT], "pair": PAIR, "special_tokens": SPECIALS}),
]

DECODERS = [
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    *[{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True} for scheme in ("always", "first", "never")],
    {"type": "WordPiece", "prefix": "##", "cleanup": True}, {"type": "WordPiece", "prefix": "##", "cleanup": False},
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "Fuse"},
    replace("a", "$1"), replace("[ab]", "", True),
    {"type": "Strip", "content": "a", "start": 2, "stop": 1},
    seq("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}),
]

NATURAL = {"bytes": [1], "bytes-whole-words": [1], "byte-fallback": [12], "word-piece": [5]}


def file(model, added, normalizer, pre_tokenizer, post_processor, decoder):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model}


def plans(rng, count):
    """Each option once with a fitting model, then `count` of them at random."""
    names = list(models())
    for model in names:
        yield model, 1, 0, 0, 0, NATURAL.get(model, [8])[0]
    for i in range(1, len(ADDED)):
        for normalizer in (0, 5):
            yield "letters", i, normalizer, 0, 0, 8
    for i in range(1, len(NORMALIZERS)):
        yield "byte-fallback", 1, i, 0, 0, 12
    for i, step in enumerate(PRE_TOKENIZERS):
        yield ("bytes" if "ByteLevel" in json.dumps(step) else "unknown"), 1, 0, i, 0, 8
    for i in range(1, len(POST_PROCESSORS)):
        yield "letters", 1, 0, 0, i, 8
    for i in range(len(DECODERS)):
        yield rng.choice(["letters", "byte-fallback", "prefix"]), 1, 0, 0, 0, i
    for _ in range(count):
        yield (rng.choice(names), *[rng.randrange(len(options)) for options in (ADDED, NORMALIZERS, PRE_TOKENIZERS, POST_PROCESSORS, DECODERS)])


def main():
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    out = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).parents[2] / "test/golden/tokenizers/pipelines.json"
    known = models()
    rng = random.Random(11)
    cases = []
    for plan in plans(rng, many):
        model, *choice = plan
        if '"first"' in json.dumps(PRE_TOKENIZERS[choice[2]]) and choice[1] not in (0, 1, 2, 3, 4, 5, 11, 12):
            choice[1] = 0  # what may take letters from the start of a text is refused beside it
        parts = [options[i] for options, i in zip((ADDED, NORMALIZERS, PRE_TOKENIZERS, POST_PROCESSORS, DECODERS), choice)]
        tokenizer = Tokenizer.from_str(json.dumps(file(known[model], *parts)))
        texts = TEXTS if many > 60 else [t for i, t in enumerate(TEXTS) if i < 8 or (i + len(cases)) % 3 == 0]
        rows = []
        for text in texts:
            ids = tokenizer.encode(text).ids
            try:
                rows.append([TEXTS.index(text), ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)])
            except BaseException as error:  # the library panics where Strip takes more letters than there are
                assert "slice index" in str(error), error
        cases.append({"model": model, "parts": choice, "rows": rows})
    data = {
        "made_by": "tools/golden/tokenizers_rust.py",
        "versions": {"tokenizers": tokenizers.__version__},
        "texts": TEXTS,
        "models": known,
        "added_tokens": ADDED, "normalizers": NORMALIZERS, "pre_tokenizers": PRE_TOKENIZERS, "post_processors": POST_PROCESSORS, "decoders": DECODERS,
        "cases": cases,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}" for key, value in data.items() if key != "cases"]
    rows = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    out.write_text("{" + ",\n".join(lines) + ',\n"cases":[\n' + rows + "\n]}\n", encoding="utf-8")
    print(f"{len(cases)} cases, {out.stat().st_size} bytes, {out}")


main()
