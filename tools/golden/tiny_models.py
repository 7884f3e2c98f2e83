"""Shared by the scripts of tiny models: logits and greedy tokens by transformers, and the vocabulary of a
GGUF file."""

import torch

TRIES = 60


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.as_tensor(tokens), use_cache=False).logits


def greedy(model, prompt, new):
    """By whole passes, without a cache. Returns the new tokens and the margin (top-1 minus top-2 logit) of
    each."""
    tokens, margins = list(prompt), []
    for _ in range(new):
        top = logits_of(model, [tokens])[0, -1].topk(2)
        margins.append(float(top.values[0] - top.values[1]))
        tokens.append(int(top.indices[0]))
    return tokens[len(prompt):], margins


def clearest(model, seed, length, new):
    """Of some random prompts the one whose answer is least sensitive to small errors, such as llama.cpp's f16
    tables."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = model.config.get_text_config().vocab_size
    prompts = torch.stack([torch.randint(3, vocabulary, (length,), generator=generator) for _ in range(TRIES)])
    tokens, margins = prompts, []
    for _ in range(new):
        top = logits_of(model, tokens)[:, -1].topk(2)
        margins.append(top.values[:, 0] - top.values[:, 1])
        tokens = torch.cat([tokens, top.indices[:, :1]], 1)
    smallest = torch.stack(margins).min(0).values
    varied = [row for row in range(TRIES) if len(set(tokens[row, length:].tolist())) >= 8]
    prompt = prompts[max(varied, key=lambda row: smallest[row])].tolist()
    return prompt, *greedy(model, prompt, new)


def add_vocabulary(writer, size):
    """Some tokens, without which llama.cpp does not open a GGUF file."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([chr(33 + i) for i in range(size - 1)] + ["\u010a"])
    writer.add_token_types([1] * size)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
