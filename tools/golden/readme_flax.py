"""Makes test/golden/flax/readme.json: what the Python block of README.md prints, run as it stands.

Usage: python readme_flax.py README.md OUT        # OUT is test/golden/flax
"""

import contextlib
import io
import re
import sys
from pathlib import Path

from golden_io import versions, write_json

block = re.search(r"^```python\n(.*?)^```", Path(sys.argv[1]).read_text(encoding="utf-8"), re.M | re.S)[1]
with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(block, {})
write_json(Path(sys.argv[2]) / "readme.json", {"script": "tools/golden/readme_flax.py", "versions": versions("jax", "jaxlib", "flax"), "block": block, "printed": printed.getvalue()})
print(printed.getvalue(), end="")
