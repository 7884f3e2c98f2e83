"""Makes test/golden/nnx/*: flax.nnx modules (CPU, float32 unless a case says else) with their parameters,
inputs and outputs.

initializers, rngs, layers, attention (one call each), decode (one call per token), and what Flax does where
it is wrong (`defects`). Options are written as gqa's constructors take them (camelCase); initializers by
name.

Usage: python nnx_flax.py OUT [GROUP …]        # OUT is test/golden/nnx; all groups by default
"""

import functools
import itertools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from golden_io import versions, write_arrays, write_json

SEEDS = [0, 42, 2**31 - 1]
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
VERSIONS = versions("jax", "jaxlib", "flax")


def snake(name):
    name = {"numKeyValueHeads": "numKvHeads"}.get(name, name)
    return re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), name)


def to_python(key, value):
    if key.endswith("Init"):
        return getattr(nnx.initializers, snake(value))()
    if key in ("dtype", "paramDtype"):
        return DTYPES[value]
    return tuple(value) if isinstance(value, list) else value


def arguments(options):
    return {snake(k): to_python(k, v) for k, v in options.items()}


def normal(rng, shape):
    return rng.normal(size=shape).astype(np.float32)


def paths(module):
    """Parameters by their path, as Flax names them."""
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {".".join(map(str, path)): np.asarray(value[...], np.float32) for path, value in flat}


# --- initializers ---

INITIALIZERS = [
    ("zeros", None, [3, 5]), ("ones", None, [3, 5]), ("zerosInit", [], [3, 5]), ("onesInit", [], [3, 5]), ("constant", [-7.25], [3, 5]),
    ("uniform", [], [7, 11]), ("uniform", [0.37], [7, 11]), ("normal", [], [7, 11]), ("normal", [1.3], [7, 11]),
    ("truncatedNormal", [], [7, 11]), ("truncatedNormal", [0.7], [7, 11]),
    *[(name, [], shape) for name in ("glorotNormal", "glorotUniform", "xavierNormal", "xavierUniform", "heNormal", "heUniform",
                                     "kaimingNormal", "kaimingUniform", "lecunNormal", "lecunUniform") for shape in ([7, 11], [3, 5, 7])],
    *[("varianceScaling", [1.7, mode, kind], [13, 5]) for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
      for kind in ("truncated_normal", "normal", "uniform")],
    ("varianceScaling", [1.0, "fan_in", "truncated_normal", [0, 1], -1, []], [3, 5, 7]),
    ("varianceScaling", [1.0, "fan_in", "normal", 1, 2, [0]], [3, 5, 7]),
    ("varianceScaling", [2.0, "fan_out", "uniform", -1, 0, []], [3, 5, 7]),
    ("orthogonal", [], [7, 7]), ("orthogonal", [], [7, 11]), ("orthogonal", [], [11, 7]), ("orthogonal", [1.5], [3, 5, 7]), ("orthogonal", [1.0, 0], [5, 3, 7]),
    ("deltaOrthogonal", [], [3, 5, 7]), ("deltaOrthogonal", [0.5], [3, 3, 5, 7]), ("deltaOrthogonal", [], [2, 3, 5, 5, 7]),
]


def initializers(out):
    arrays, cases = {}, []
    for (name, args, shape), seed in itertools.product(INITIALIZERS, SEEDS):
        make = getattr(nnx.initializers, snake(name))
        init = make if args is None else make(*[tuple(a) if isinstance(a, list) else a for a in args])
        case = {"name": f"{name}-{len(cases)}", "init": name, "args": args, "shape": shape, "seed": seed}
        arrays[case["name"]] = init(jax.random.key(seed), tuple(shape), jnp.float32)
        cases.append(case)
    write(out, "initializers", arrays, {"cases": cases})


# --- rngs ---

def rngs(out):
    data = lambda key: np.asarray(jax.random.key_data(key)).tolist()
    rows = []
    for seed in SEEDS:
        one, two = nnx.Rngs(seed), nnx.Rngs(seed, params=seed // 2 + 1, dropout=3)
        row = {"seed": seed, "one": [data(one()), data(one.params()), data(one.dropout()), data(one["noise"]()), data(one())],
               "two": [data(two()), data(two.params()), data(two.params()), data(two.dropout()), data(two.noise())]}
        fork = two.fork()
        row["fork"] = [data(fork()), data(fork.params()), data(fork.dropout()), data(fork.noise())]
        row["afterFork"] = [data(two()), data(two.params()), data(two.dropout())]
        stream = two.dropout.fork()
        row["streamFork"] = [data(stream()), data(stream()), data(two.dropout())]
        rows.append(row)
    errors = {}
    try:
        nnx.Rngs(params=0).dropout()
    except Exception as error:
        errors["noStream"] = str(error)
    write(out, "rngs", {}, {"cases": rows, "errors": errors})


# --- layers ---

LAYERS = [
    ("Linear", {"inFeatures": 7, "outFeatures": 11}, [2, 3, 7]), ("Linear", {"inFeatures": 7, "outFeatures": 11, "useBias": False}, [5, 7]),
    ("Linear", {"inFeatures": 7, "outFeatures": 5, "kernelInit": "heNormal", "biasInit": "onesInit"}, [7]),
    ("Linear", {"inFeatures": 7, "outFeatures": 5, "dtype": "bf16", "biasInit": "onesInit"}, [3, 7]), ("Linear", {"inFeatures": 7, "outFeatures": 5, "dtype": "f16"}, [3, 7]),
    ("LinearGeneral", {"inFeatures": 7, "outFeatures": [3, 5], "biasInit": "onesInit"}, [2, 11, 7]),
    ("LinearGeneral", {"inFeatures": [3, 5], "outFeatures": 7, "axis": [-2, -1]}, [2, 11, 3, 5]),
    ("LinearGeneral", {"inFeatures": [3, 7], "outFeatures": [5, 2], "axis": [1, -1], "biasInit": "onesInit"}, [2, 3, 11, 7]),
    ("LinearGeneral", {"inFeatures": 3, "outFeatures": 5, "axis": 1, "useBias": False}, [2, 3, 7]),
    ("Embed", {"numEmbeddings": 13, "features": 7}, None), ("Embed", {"numEmbeddings": 1, "features": 7}, None),
    ("LayerNorm", {"numFeatures": 17}, [3, 5, 17]), ("LayerNorm", {"numFeatures": 17, "epsilon": 0.1, "useBias": False}, [5, 17]),
    ("LayerNorm", {"numFeatures": 17, "useScale": False, "biasInit": "onesInit"}, [5, 17]),
    ("RMSNorm", {"numFeatures": 17}, [3, 5, 17]), ("RMSNorm", {"numFeatures": 17, "epsilon": 0.1, "useScale": False}, [5, 17]),
    ("Dropout", {"rate": 0.3}, [3, 5, 7]), ("Dropout", {"rate": 0.5, "broadcastDims": [0, 2]}, [3, 5, 7]), ("Dropout", {"rate": 0.5, "deterministic": True}, [3, 5]),
    ("Dropout", {"rate": 1.0}, [3, 5]),
]


def layers(out):
    arrays, cases = {}, []
    for index, (kind, options, shape) in enumerate(LAYERS):
        for seed in SEEDS[: 2 if index else 3]:
            rng = np.random.RandomState(index * 10 + seed % 7)
            name = f"{kind}-{index}-{seed}"
            module = getattr(nnx, kind)(**arguments(options), rngs=nnx.Rngs(seed))
            if kind == "Embed":
                x = rng.randint(0, options["numEmbeddings"], (3, 5)).astype(np.int32)
                query = normal(rng, (3, 7))
                arrays |= {f"{name}/query": query, f"{name}/attend": module.attend(query)}
            else:
                x = normal(rng, shape)
            output = module(x)
            again = {f"{name}/again": module(x)} if kind == "Dropout" else {}
            arrays |= {f"{name}/x": x, f"{name}/output": np.asarray(output, np.float32)} | again
            arrays |= {f"{name}/params/{k}": v for k, v in paths(module).items()}
            cases.append({"name": name, "kind": kind, "options": options, "seed": seed, "dtype": str(output.dtype)})
    for index, options in enumerate(({}, {"embeddingSize": 10, "maxSeqLen": 13}, {"theta": 500.0, "embeddingSize": 10, "maxSeqLen": 13}, {"theta": 100.0})):
        rng = np.random.RandomState(index)
        module, name = nnx.RoPE(**arguments(options)), f"RoPE-{index}"
        x, positions = normal(rng, (2, 3, 7, 10)), np.arange(7) * 5 + 1
        arrays |= {f"{name}/x": x, f"{name}/output": module(x), f"{name}/positions": positions.astype(np.int32),
                   f"{name}/positioned": module(x, jnp.asarray(positions, jnp.float32))}
        cases.append({"name": name, "kind": "RoPE", "options": options, "seed": 0, "dtype": "float32"})
    a, b = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.float32), np.array([[1, 0, 1], [1, 1, 0]], np.float32)
    causal, other = nnx.make_causal_mask(a), np.random.RandomState(3).randint(0, 2, (2, 1, 5, 5)).astype(np.float32)
    arrays |= {"masks/a": a, "masks/b": b, "masks/attention": nnx.make_attention_mask(a, b), "masks/extra": nnx.make_attention_mask(a, b, extra_batch_dims=2),
               "masks/greaterEqual": nnx.make_attention_mask(a, b, jnp.greater_equal), "masks/causal": causal, "masks/other": other,
               "masks/combined": nnx.combine_masks(None, causal, other)}
    write(out, "layers", arrays, {"cases": cases})


# --- attention ---

BASE = {"numHeads": 6, "inFeatures": 13, "qkvFeatures": 30, "outFeatures": 17, "kernelInit": "lecunNormal", "biasInit": "normal"}


def attention_cases():
    product = itertools.product((6, 3, 2, 1), (True, False), (False, True), (False, True), (None, (2, 1, 7, 7), (2, 6, 7, 7)))
    for index, (K, bias, norm, causal, mask) in enumerate(product):
        options = BASE | {"numKeyValueHeads": K} | ({} if bias else {"useBias": False}) | ({"normalizeQk": True} if norm else {})
        yield {"options": options, "call": {"isCausal": True} if causal else {}, "mask": mask, "q": (2, 7, 13), "seed": SEEDS[index % 3]}
    plain = BASE | {"numKeyValueHeads": 2}
    cross = plain | {"inKvFeatures": 11}
    for seed in SEEDS:
        yield {"options": {"numHeads": 3, "inFeatures": 15}, "q": (2, 7, 15), "seed": seed}
        yield {"options": cross, "q": (2, 7, 13), "k": (2, 5, 11), "seed": seed}
        yield {"options": cross, "q": (2, 7, 13), "k": (2, 5, 11), "v": (2, 5, 11), "mask": (2, 1, 7, 5), "seed": seed}
    yield {"options": cross, "q": (2, 7, 13), "k": (2, 11, 11), "call": {"isCausal": True}, "seed": 7}
    yield {"options": cross, "q": (2, 7, 13), "k": (2, 3, 11), "call": {"isCausal": True}, "seed": 7}
    yield {"options": plain, "q": (7, 13), "seed": 3}
    yield {"options": plain, "q": (7, 13), "mask": (6, 7, 7), "call": {"isCausal": True}, "seed": 3}
    yield {"options": plain, "q": (2, 3, 7, 13), "seed": 3}
    yield {"options": plain, "q": (2, 3, 7, 13), "mask": (2, 3, 1, 7, 7), "seed": 3}
    yield {"options": plain, "q": (2, 3, 2, 5, 13), "call": {"isCausal": True}, "seed": 3}
    yield {"options": plain | {"kernelInit": "orthogonal", "outKernelInit": "heUniform", "outBiasInit": "onesInit"}, "q": (2, 7, 13), "seed": 5, "tolerance": 1e-5}
    yield {"options": plain | {"kernelInit": "xavierUniform", "outKernelInit": "normal"}, "q": (2, 7, 13), "seed": 5}
    for rate, broadcast, K, shape in ((0.3, True, 2, (2, 7, 13)), (0.3, False, 2, (2, 7, 13)), (0.5, True, 6, (2, 7, 13)), (0.5, False, 1, (2, 3, 7, 13)), (0.9, True, 3, (7, 13)), (0.25, True, 2, (2, 3, 7, 13))):
        for seed in SEEDS:
            yield {"options": plain | {"numKeyValueHeads": K, "dropoutRate": rate, "broadcastDropout": broadcast}, "call": {"deterministic": False}, "q": shape, "seed": seed, "calls": 2}
    yield {"options": plain | {"dropoutRate": 0.5, "deterministic": False}, "mask": (2, 1, 7, 7), "call": {"isCausal": True}, "q": (2, 7, 13), "seed": 1}
    yield {"options": plain | {"dropoutRate": 0.5, "deterministic": False}, "call": {"deterministic": True}, "q": (2, 7, 13), "seed": 1}
    yield {"options": plain | {"dropoutRate": 0.5, "deterministic": False, "keepRngs": False}, "callSeed": 9, "q": (2, 7, 13), "seed": 1}
    for K in (6, 2):
        yield {"options": plain | {"numKeyValueHeads": K}, "call": {"sowWeights": True, "isCausal": True}, "mask": (2, 1, 7, 7), "q": (2, 7, 13), "seed": 2}
    for dtype, param in (("bf16", None), ("f16", None), ("f32", None)):
        yield {"options": plain | {"dtype": dtype}, "q": (2, 7, 13), "seed": 2, "tolerance": {"bf16": 2e-2, "f16": 3e-3, "f32": 1e-5}[dtype], "call": {"isCausal": True}}
    yield {"options": plain | {"dtype": "bf16", "normalizeQk": True}, "q": (2, 7, 13), "seed": 2, "tolerance": 2e-2}
    for rope in ({}, {"theta": 100.0}, {"embeddingSize": 6, "maxSeqLen": 19}):
        yield {"options": plain | {"qkvFeatures": 36}, "rope": rope, "q": (2, 7, 13), "seed": 2, "call": {"isCausal": True}}


def attention(out):
    arrays, cases, params = {}, [], {}
    for index, case in enumerate(attention_cases()):
        rng = np.random.RandomState(index)
        name, options, seed = f"{index}", case["options"], case["seed"]
        inputs = {k: normal(rng, case[k]) for k in "qkv" if k in case}
        mask = None
        if case.get("mask"):
            mask = rng.randint(0, 3, case["mask"]) > 0
            mask[..., 0] = True  # Flax gives the mean of V to a query that sees nothing; see `defects`
        kwargs = arguments(options)
        if "rope" in case:
            kwargs["attention_fn"] = functools.partial(nnx.dot_product_attention_with_rope, rope=nnx.RoPE(**arguments(case["rope"])))
        module = nnx.MultiHeadAttention(**kwargs, decode=False, rngs=nnx.Rngs(seed))
        call = arguments(case.get("call", {})) | ({"mask": mask} if mask is not None else {})
        if "callSeed" in case:
            call["rngs"] = nnx.Rngs(case["callSeed"])
        for i in range(case.get("calls", 1)):
            output = module(*inputs.values(), **call)
            arrays[f"{name}/output{i}"] = np.asarray(output, np.float32)
        if call.get("sow_weights"):
            arrays[f"{name}/weights"] = nnx.pop(module, nnx.Intermediate)["attention_weights"].get_value()[0]
        arrays |= {f"{name}/{k}": v for k, v in inputs.items()}
        if mask is not None:
            arrays[f"{name}/mask"] = mask
        # The same options and seed give the same parameters: stored once.
        shared = repr((sorted((k, v) for k, v in options.items() if not k.startswith(("dropout", "broadcast", "det", "keep", "dtype"))), seed))
        if shared not in params:
            params[shared] = name
            arrays |= {f"{name}/params/{k}": v for k, v in paths(module).items()}
        cases.append({"name": name, "options": options, "seed": seed, "call": case.get("call", {}), "inputs": list(inputs), "calls": case.get("calls", 1),
                      "params": params[shared], "dtype": str(output.dtype), "tolerance": case.get("tolerance", 1e-5)}
                     | {k: case[k] for k in ("rope", "callSeed") if k in case})
    write(out, "attention", arrays, {"cases": cases})


# --- decode ---

def decode(out):
    arrays, cases = {}, []
    for index, (K, batch, bias, norm, masked) in enumerate(((6, (2,), True, False, False), (2, (2,), True, False, False), (1, (3,), False, True, False),
                                                            (2, (), True, False, False), (3, (2, 3), True, True, False), (2, (2,), True, False, True))):
        options = BASE | {"numKeyValueHeads": K, "useBias": bias, "normalizeQk": norm}
        seed, length, name = SEEDS[index % 3], 5, f"{index}"
        module = nnx.MultiHeadAttention(**arguments(options), decode=True, rngs=nnx.Rngs(seed))
        x = normal(np.random.RandomState(index), (*batch, length, 13))
        mask = np.random.RandomState(index).randint(0, 2, (*batch, 1, length, length)) > 0
        mask[..., 0] = True
        module.init_cache(x.shape)
        steps = [module(x[..., t : t + 1, :], mask=jnp.asarray(mask[..., t : t + 1, :]) if masked else None) for t in range(length)]
        arrays |= {f"{name}/x": x, f"{name}/output": jnp.concatenate(steps, axis=-2), f"{name}/cachedKey": module.cached_key[...], f"{name}/cachedValue": module.cached_value[...]}
        if masked:
            arrays[f"{name}/mask"] = mask
        cases.append({"name": name, "options": options, "seed": seed, "batch": list(batch), "length": length, "cacheIndex": int(module.cache_index[...]), "masked": masked})
    write(out, "decode", arrays, {"cases": cases})


def checkpoint(out):
    """A module's parameters as a file of their own, under the paths of its state."""
    options = {"numHeads": 6, "inFeatures": 13, "qkvFeatures": 30, "numKeyValueHeads": 2, "normalizeQk": True, "biasInit": "normal"}
    module = nnx.MultiHeadAttention(**arguments(options), decode=False, rngs=nnx.Rngs(11))
    x = normal(np.random.RandomState(0), (2, 7, 13))
    write_arrays(out / "checkpoint" / "model.safetensors", paths(module))
    write(out, "checkpoint", {"x": x, "output": module(x)}, {"options": options})


# --- what Flax does where it is wrong, and its error texts ---

def text(call):
    try:
        call()
    except Exception as error:
        return {"type": type(error).__name__, "message": str(error)}
    return None


def defects(out):
    arrays, notes = {}, {}
    mha = lambda **options: nnx.MultiHeadAttention(**({"num_heads": 4, "in_features": 16, "num_kv_heads": 2, "decode": False, "rngs": nnx.Rngs(0)} | options))
    x = normal(np.random.RandomState(0), (2, 6, 16))
    one = x[:, :1]

    # A full cache: the last slot is overwritten, the index grows, the output drifts from one causal pass.
    full = mha()(x, is_causal=True)
    module = mha(decode=True)
    module.init_cache((2, 4, 16))
    steps = jnp.concatenate([module(x[:, t : t + 1]) for t in range(6)], axis=1)
    arrays |= {"x": x, "causal": full, "overflow": steps}
    notes["overflow"] = {"cacheIndex": int(module.cache_index[...]), "maxLength": 4, "errorUpTo4": float(jnp.abs(steps - full)[:, :4].max()), "errorAfter": float(jnp.abs(steps - full)[:, 4:].max())}

    # RoPE while decoding: every query gets position 0 and the cached keys are rotated again.
    rope = {"attention_fn": functools.partial(nnx.dot_product_attention_with_rope, rope=nnx.RoPE())}
    pass_ = mha(**rope)(x, is_causal=True)
    module = mha(decode=True, **rope)
    module.init_cache(x.shape)
    steps = jnp.concatenate([module(x[:, t : t + 1]) for t in range(6)], axis=1)
    arrays |= {"ropePass": pass_, "ropeDecode": steps}
    notes["ropeDecode"] = {"error": float(jnp.abs(steps - pass_).max())}

    # A query that sees nothing gets the mean of V.
    mask = np.ones((2, 1, 6, 6), bool)
    mask[0, 0, 2] = False
    arrays |= {"emptyRowMask": mask, "emptyRow": mha()(x, mask=mask)}

    def view():
        module = mha()
        module.set_view(decode=True, batch_size=2, max_length=4)
        module(one)

    def bf16_cache():
        module = mha(decode=True)
        module.init_cache((2, 4, 16), jnp.bfloat16)
        module(one)

    def several():
        module = mha(decode=True)
        module.init_cache((2, 4, 16))
        module(x[:, :2])

    def uncached():
        mha(decode=True)(one)

    notes["setView"], notes["bf16Cache"], notes["severalTokens"] = text(view), text(bf16_cache), text(several)
    notes["errors"] = {
        "heads": text(lambda: mha(num_kv_heads=3)), "zeroKeyValueHeads": text(lambda: mha(num_kv_heads=0)), "features": text(lambda: mha(qkv_features=18)),
        "valuesWithoutKeys": text(lambda: mha()(x, inputs_v=x)), "inputWidth": text(lambda: mha()(x[..., :15])), "kvWidth": text(lambda: mha()(x, x[..., :15])),
        "decodeMissing": text(lambda: mha(decode=None)(x)), "deterministicMissing": text(lambda: mha(dropout_rate=0.5)(x)),
        "rngsMissing": text(lambda: mha(dropout_rate=0.5, keep_rngs=False)(x, deterministic=False)), "noCache": text(uncached), "maskHeads": text(lambda: mha()(x, mask=np.ones((2, 2, 6, 6), bool))),
        "linearGeneralAxes": text(lambda: nnx.LinearGeneral((3, 5), 7, axis=-1, rngs=nnx.Rngs(0))), "ropeOdd": text(lambda: nnx.RoPE(embedding_size=5, max_seq_len=3)),
        "ropeHalf": text(lambda: nnx.RoPE(embedding_size=6)), "ropePositions": text(lambda: nnx.RoPE()(x, jnp.arange(5.0))),
        "dropoutRngs": text(lambda: nnx.Dropout(0.5)(x)), "masksRank": text(lambda: nnx.combine_masks(jnp.ones((1, 2)), jnp.ones((2,)))),
        "embedFloat": text(lambda: nnx.Embed(3, 5, rngs=nnx.Rngs(0))(x)), "fans": text(lambda: nnx.initializers.lecun_normal()(jax.random.key(0), (3,))),
        "mode": text(lambda: nnx.initializers.variance_scaling(1.0, "fan", "normal")(jax.random.key(0), (3, 5))),
        "distribution": text(lambda: nnx.initializers.variance_scaling(1.0, "fan_in", "cauchy")(jax.random.key(0), (3, 5))),
        "orthogonalRank": text(lambda: nnx.initializers.orthogonal()(jax.random.key(0), (3,))),
        "deltaOrthogonalRank": text(lambda: nnx.initializers.delta_orthogonal()(jax.random.key(0), (3, 5))),
        "deltaOrthogonalFan": text(lambda: nnx.initializers.delta_orthogonal()(jax.random.key(0), (3, 5, 3))),
    }
    write(out, "defects", arrays, notes)


def write(out, name, arrays, value):
    if arrays:
        write_arrays(out / f"{name}.safetensors", arrays)
    write_json(out / f"{name}.json", {"script": "tools/golden/nnx_flax.py", "versions": VERSIONS} | value)
    print(name, len(value.get("cases", [])), "cases")


GROUPS = (initializers, rngs, layers, attention, decode, checkpoint, defects)
for group in GROUPS:
    if not sys.argv[2:] or group.__name__ in sys.argv[2:]:
        group(Path(sys.argv[1]))
