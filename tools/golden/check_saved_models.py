"""Opens the folders of save_models.mjs in transformers: no tensor is missing or unexpected, logits and ids agree."""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)
TOLERANCE = 2e-5
failed, worst, tokenizers = [], 0.0, 0
folders = sorted(path.with_suffix("") for path in Path(sys.argv[1]).glob("*.json"))
for folder in folders:
    want = json.loads(folder.with_name(folder.name + ".json").read_text())
    # By its own name: the automatic class of Llama 4 leaves a vision tower out.
    own = getattr(transformers, AutoConfig.from_pretrained(folder).architectures[0])
    model, info = own.from_pretrained(folder, dtype="float32", experts_implementation="eager", output_loading_info=True)
    problems = {key: sorted(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]}
    with torch.no_grad():
        logits = model.eval()(torch.tensor([want["tokens"]]), use_cache=False).logits.flatten()
    expected = torch.tensor(want["logits"])
    error = float((logits - expected).abs().max() / max(1, float(expected.abs().max())))
    worst = max(worst, error)
    if not error <= TOLERANCE:
        problems["logits"] = error
    if want.get("ids"):
        tokenizers += 1
        ids = AutoTokenizer.from_pretrained(folder)(want["text"]).input_ids
        if ids != want["ids"]:
            problems["ids"] = ids
    if problems:
        failed.append(folder.name)
        print(folder.name, problems)
print(f"{len(folders) - len(failed)} of {len(folders)} folders agree, logits within {worst:.1e}, "
      f"{tokenizers} tokenizers (transformers {transformers.__version__}, torch {torch.__version__})")
sys.exit(bool(failed))
