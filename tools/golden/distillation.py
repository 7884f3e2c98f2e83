"""Makes test/golden/train/distillation: the loss of distillation on a teacher's top k tokens, and its gradient,
from PyTorch in float64.

Probabilities over k + 1 classes are sums of the softmax's; torch.nn.functional.kl_div compares them.

Usage: python distillation.py GOLDEN        # GOLDEN is test/golden
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from golden_io import versions, write_arrays, write_json

B, T, V = 2, 7, 31
CASES = [
    dict(name="half", k=5, kd_ratio=0.5, scale=2.0),
    dict(name="teacher alone", k=1, kd_ratio=1.0, scale=1.0),
    dict(name="nearly all tokens", k=30, kd_ratio=0.25, scale=3.0),
    dict(name="sure of itself", k=3, kd_ratio=0.5, scale=8.0),
]


def classes(logits, ids):
    """[n, V] and [n, k] -> log-probabilities [n, k + 1]: of the ids, and of all other tokens together."""
    probabilities = torch.softmax(logits, -1)
    kept = probabilities.gather(1, ids)
    others = torch.ones_like(probabilities).scatter(1, ids, 0.0)
    return torch.log(torch.cat([kept, (probabilities * others).sum(1, keepdim=True)], 1))


def main(golden):
    torch.manual_seed(5)
    arrays, cases = {}, []
    for index, case in enumerate(CASES):
        teacher = (case["scale"] * torch.randn(B * T, V)).double()
        student = (case["scale"] * torch.randn(B * T, V)).double().requires_grad_()
        labels = torch.randint(V, (B * T,))
        ids = teacher.topk(case["k"]).indices.sort().values
        target = classes(teacher, ids)
        divergence = F.kl_div(classes(student, ids), target, log_target=True, reduction="batchmean")
        entropy = F.cross_entropy(student, labels)
        loss = case["kd_ratio"] * divergence + (1 - case["kd_ratio"]) * entropy
        loss.backward()
        cases.append({**case, "loss": loss.item(), "divergence": divergence.item()})
        arrays |= {
            f"{index}/teacher": teacher.numpy(),
            f"{index}/student": student.detach().reshape(B, T, V).numpy(),
            f"{index}/labels": labels.reshape(B, T).numpy(),
            f"{index}/ids": ids.numpy(),
            f"{index}/logProbs": target.numpy(),
            f"{index}/gradient": student.grad.reshape(B, T, V).numpy(),
        }
    write_arrays(golden / "train/distillation.safetensors", arrays)
    write_json(golden / "train/distillation.json", {"versions": versions("torch"), "cases": cases})


main(Path(sys.argv[1]))
