"""Makes test/golden/tiny-<family>/<option>.gguf, float32, from checkpoints of tiny_families.py with llama.cpp's own
converter. Only the vocabulary, without which llama.cpp opens no file, is made up.

Options that llama.cpp reads in another way, or that GGUF has no keys for, have no file.

Usage: python tiny_converted_gguf.py LLAMA_CPP OUT [FAMILY/OPTION …]   # LLAMA_CPP its sources, OUT test/golden
"""

import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import torch

llama_cpp, out, *chosen = sys.argv[1:]
sys.path[:0] = [llama_cpp, f"{llama_cpp}/gguf-py"]

from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # noqa: E402
from gguf import LlamaFileType  # noqa: E402

from tiny_models import add_vocabulary  # noqa: E402

FILES = (
    "smollm3/plain", "mixtral/plain", "qwen3_moe/plain", "olmo2/plain", "olmo/plain", "olmo/clip", "olmo3/plain", "olmo3/yarn",
    "granite/plain", "granite/options", "gpt_neox/plain", "phi/plain", "stablelm/plain", "stablelm/parallel", "gemma/plain",
    "glm4/plain", "cohere2/plain", "ernie4_5/plain", "exaone4/plain", "exaone4/full", "ministral3/plain", "hunyuan_v1_dense/plain",
    "seed_oss/plain", "arcee/plain", "apertus/plain",
    "llama4_text/long", "gemma4_text/plain", "gemma4_text/keys", "gemma4_text/experts")


def convert(folder, path):
    # Gemma's converter counts the tokens of this file.
    made_up = Path(shutil.copytree(folder, Path(tempfile.mkdtemp()) / folder.name))
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    vocabulary = {str(i): i for i in range(size)}
    (made_up / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    folder = made_up
    hparams = ModelBase.load_hparams(folder, False)
    # The older name, which the converter reads.
    hparams["rotary_pct"] = hparams.get("rope_parameters", {}).get("partial_rotary_factor", 1.0)
    made = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    with torch.inference_mode():
        model = made(folder, LlamaFileType.ALL_F32, path, model_name="tiny", hparams=hparams)
        inner = getattr(model, "impl", model)
        inner.set_vocab = lambda: add_vocabulary(inner.gguf_writer, hparams["vocab_size"])
        model.write()
    path.chmod(0o644)
    print(path, path.stat().st_size)
    shutil.rmtree(made_up.parent)


logging.disable(logging.INFO)
for name in chosen or FILES:
    family, option = name.split("/")
    parent = Path(out) / f"tiny-{family}"
    convert(parent / option, parent / f"{option}.gguf")
