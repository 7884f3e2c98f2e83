"""Answers the commands on stdin, a line each, as bench/serve.mjs does."""

import json
import sys


def serve(commands):
    for line in sys.stdin:
        command, argument = line.split(" ", 1)
        try:
            answer = {"ok": commands[command](json.loads(argument))}
        except Exception as error:  # noqa: BLE001 the message is the answer
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        print("#bench " + json.dumps(answer), flush=True)
