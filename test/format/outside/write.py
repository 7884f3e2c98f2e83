"""Writes small.safetensors and small.gguf, the files that other implementations made and our parsers must
read.

Made with Python safetensors 0.8.0, gguf 0.19.0, numpy 2.4.6:  python write.py
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.numpy import save_file

here = Path(__file__).parent

save_file(
    {
        "b.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a.bias": np.array([1, 2, 3, 4, 5], dtype=np.float32),
        "mask": np.array([True, False, True]),
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 3), dtype=np.uint8),
    },
    here / "small.safetensors",
    metadata={"format": "np", "größe": 'ü"x"'},
)

writer = GGUFWriter(here / "small.gguf", "llama")
writer.add_uint8("t.u8", 250)
writer.add_int8("t.i8", -3)
writer.add_uint16("t.u16", 65000)
writer.add_int16("t.i16", -300)
writer.add_uint32("t.u32", 4000000000)
writer.add_int32("t.i32", -5)
writer.add_float32("t.f32", 0.5)
writer.add_bool("t.bool", True)
writer.add_string("t.string", "Ġthe ü")
writer.add_uint64("t.u64", 2**53 + 1)
writer.add_int64("t.i64", -(2**40))
writer.add_float64("t.f64", 1e300)
writer.add_array("t.strings", ["a", "Ġb", ""])
writer.add_array("t.ints", [1, -2, 3])
writer.add_array("t.floats", [1.5, 2.5])
writer.add_array("t.bools", [True, False])
writer.add_block_count(2)
writer.add_embedding_length(64)
writer.add_head_count(4)
writer.add_head_count_kv([2, 4])
writer.add_context_length(128)
writer.add_custom_alignment(64)
x = (np.arange(3 * 64, dtype=np.float32).reshape(3, 64) - 90) / 16
writer.add_tensor("token_embd.weight", x)
for name, kind in [("q4_1", GGMLQuantizationType.Q4_1), ("q8_0", GGMLQuantizationType.Q8_0)]:
    writer.add_tensor(f"blk.0.{name}", quants.quantize(x, kind), raw_dtype=kind)
writer.add_tensor("blk.0.f16", np.arange(5, dtype=np.float16))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
