"""Makes demo/held-out/: the texts on which a conversion is judged.

Prose and dialogue come from the sources of the brotli package on PyPI, code from the npm package commander.

Usage: pip download --no-deps --no-binary :all: brotli==1.2.1, unpack, and
python tools/demo/held-out.py brotli-1.2.1/tests/testdata node_modules/commander
"""

import re
import sys
from pathlib import Path

TESTDATA, COMMANDER = map(Path, sys.argv[1:])
OUT = Path(__file__).parents[2] / "demo/held-out"


def paragraphs(text):
    blocks = re.split(r"\n\s*\n", text)
    return [re.sub(r"\s+", " ", block).strip() for block in blocks if block.strip()]


def prose():
    """Alice's Adventures in Wonderland, chapter II."""
    text = (TESTDATA / "alice29.txt").read_text("ascii")
    chapter = text[text.index("CHAPTER II\n") : text.index("CHAPTER III\n")]
    return "\n\n".join(line for line in paragraphs(chapter)[2:] if "*" not in line)


def dialogue():
    """As You Like It, act I, scene I, without stage directions; a line for each speech."""
    text = (TESTDATA / "asyoulik.txt").read_text("ascii")
    scene = text[text.index("SCENE I\tOrchard") :].split("\n", 1)[1]
    scene = re.sub(r"\[[^]]*\]", "", scene[: scene.index("ACT I\n")])
    speeches = re.split(r"\n(?=[A-Z ]+\t)", scene)
    lines = [re.sub(r"\s+", " ", speech.replace("\t", ": ", 1)).strip() for speech in speeches]
    return "\n\n".join(line for line in lines if re.match(r"[A-Z ]+: ", line) and "AS YOU LIKE IT" not in line)


def code():
    names = ["suggestSimilar.js", "argument.js", "error.js"]
    return "\n".join((COMMANDER / "lib" / name).read_text("utf-8") for name in names).strip()


for name, text in {"prose": prose(), "dialogue": dialogue(), "code": code()}.items():
    (OUT / f"{name}.txt").write_text(text + "\n", "utf-8")
    print(name, len(text))
