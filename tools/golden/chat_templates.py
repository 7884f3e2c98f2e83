"""Makes test/golden/chat-templates/: templates and the texts that transformers renders of them.
test/text/chat-template.test.ts holds src/text/jinja by them.

rows.json: one construct each (chat_template_rows.py), rendered in transformers' environment; `error` where it
raises. models.json: templates written here with the constructs of well-known models' own
(tools/golden/chat-templates/*.jinja), over several conversations, by `render_jinja_template`. strftime.json:
Python's strftime on fixed times.

Usage: python chat_templates.py OUT                    # OUT is test/golden/chat-templates
       python chat_templates.py OUT --models FOLDER    # only models.json, of the .jinja files of another folder
"""

import json
import sys
from datetime import datetime
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from chat_template_rows import REFUSED, ROWS, VARIABLES
from golden_io import versions, write_json

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city, in °C.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city's name"},
                    "days": {"type": "integer", "default": 1, "enum": [1, 2, 3]},
                    "scale": {"type": "number", "default": 1.0},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["city"],
            },
            "return": {"type": "string", "description": "A sentence"},
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"type": "function", "id": "abc123456", "function": {"name": "get_weather", "arguments": {"city": "Rome", "days": 2, "scale": 0.5}}}
PLAIN = [{"role": "user", "content": "Hi 👋, what is 1 < 2?"}]
SYSTEM = [{"role": "system", "content": "Be brief.\n"}, *PLAIN]
TURNS = [*SYSTEM, {"role": "assistant", "content": " True. "}, {"role": "user", "content": "  Why?\n"}]
CALLS = [
    *SYSTEM,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "get_weather", "tool_call_id": "abc123456", "content": "18.5 °C"},
    {"role": "assistant", "content": "It is 18.5 °C."},
    {"role": "user", "content": "And Oslo?"},
]
THINKING = [
    *PLAIN,
    {"role": "assistant", "reasoning_content": "Compare.", "content": "<think>\nCompare.\n</think>\n\nTrue."},
    {"role": "user", "content": "Sure? /no_think"},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]}]
CONVERSATIONS = {
    "plain": dict(messages=PLAIN),
    "prompt": dict(messages=PLAIN, add_generation_prompt=True),
    "system": dict(messages=SYSTEM, add_generation_prompt=True),
    "turns": dict(messages=TURNS, add_generation_prompt=True),
    "answered": dict(messages=TURNS[:3]),
    "tools": dict(messages=SYSTEM, tools=TOOLS, add_generation_prompt=True),
    "tools, no system": dict(messages=PLAIN, tools=TOOLS, add_generation_prompt=True),
    "calls": dict(messages=CALLS, tools=TOOLS, add_generation_prompt=True),
    "call last": dict(messages=CALLS[:3], tools=TOOLS),
    "result last": dict(messages=CALLS[:4], tools=TOOLS, add_generation_prompt=True),
    "thinking": dict(messages=THINKING, add_generation_prompt=True),
    "no thinking": dict(messages=THINKING, add_generation_prompt=True, enable_thinking=False),
    "thinking asked": dict(messages=PLAIN, add_generation_prompt=True, enable_thinking=True, thinking=True),
    "parts": dict(messages=PARTS, add_generation_prompt=True),
    "documents": dict(messages=PLAIN, documents=[{"title": "A", "text": "One."}, {"title": "B", "text": "Two."}], add_generation_prompt=True),
    "two users": dict(messages=[*PLAIN, *PLAIN]),
    "date": dict(messages=PLAIN, today="26 Jul 2024", add_generation_prompt=True),
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def rendered(render):
    try:
        return {"text": render()}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}


def rows():
    out = []
    for group, templates in {**ROWS, "refused": REFUSED}.items():
        for template in templates:
            row = rendered(lambda: _compile_jinja_template(template).render(**VARIABLES))
            if group != "refused" or "text" in row:
                row.pop("message", None) if "raise_exception" not in template else None
            out.append({"group": group, "template": template, **row})
    return out


def models(folder):
    out = []
    for path in sorted(Path(folder).glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        cases = []
        for name, options in CONVERSATIONS.items():
            options = dict(options)
            chat = options.pop("messages")
            case = rendered(lambda: render_jinja_template([chat], chat_template=template, **TOKENS, **options)[0][0])
            cases.append({"conversation": name, **case})
        out.append({"name": path.stem, "template": template, "cases": cases})
    return out


def write_models(out, folder):
    conversations = {name: json.dumps(options, ensure_ascii=False) for name, options in CONVERSATIONS.items()}
    write_json(out / "models.json", {"versions": made, "tokens": TOKENS, "conversations": conversations, "models": models(folder)})


made = versions("transformers", "jinja2")
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
if "--models" in sys.argv:
    write_models(out, sys.argv[sys.argv.index("--models") + 1])
else:
    variables = json.dumps(VARIABLES, ensure_ascii=False)
    write_json(out / "rows.json", {"versions": made, "variables": variables, "rows": rows()})
    write_models(out, Path(__file__).parent / "chat-templates")
    codes = "a A b B c C d D e F f g G h H I j k l m M n p P r R S t T u U V w W x X y Y z Z % -d -m -H -I -M -S -j -y -e -u".split()
    times = [datetime(2024, 12, 30, 0, 5, 9), datetime(2026, 1, 1, 12, 59, 1), datetime(2021, 8, 15, 23, 0, 0), datetime(2023, 1, 1, 9, 7, 30)]
    cases = [{"time": t.isoformat(), "texts": {code: t.strftime("%" + code) for code in codes}} for t in times]
    write_json(out / "strftime.json", {"versions": made, "cases": cases})
