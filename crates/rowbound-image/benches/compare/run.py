"""Runs the tools in turn and prints processor time and peak memory.

    run.py ROUNDS PICTURES LARGE OURS PILLOW-PYTHON SHARP-FOLDER

Processor time is user and system of the whole process, its start included; of several rounds the best counts. LARGE is a folder with the 24 MP JPEG
alone. SHARP-FOLDER is where node_modules lies; empty leaves sharp out.
"""

import os
import subprocess
import sys
import tempfile

rounds, pictures, large, ours, python, sharp = int(sys.argv[1]), *sys.argv[2:]
here = os.path.dirname(os.path.abspath(__file__))
tools = {"rowbound-image": [ours], "Pillow + pilkit": [python, os.path.join(here, "pillow.py")]}
if sharp:
    tools["sharp"] = ["node", os.path.join(sharp, "sharp.mjs")]


def run(command, source):
    """Seconds and megabytes."""
    with tempfile.TemporaryDirectory() as target:
        process = subprocess.Popen([*command, source, target])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        assert len(os.listdir(target)) == len(os.listdir(source)), command
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


count = len(os.listdir(pictures))
seconds = {tool: [] for tool in tools}
memory = dict.fromkeys(tools, 0)
for number in range(rounds):
    for tool, command in tools.items():
        spent, peak = run(command, pictures)
        seconds[tool].append(spent)
        memory[tool] = max(memory[tool], peak)
        print(f"round {number + 1}: {tool}: {spent:.2f} s for {count} pictures", file=sys.stderr, flush=True)
best = {tool: min(all) for tool, all in seconds.items()}
mine = best["rowbound-image"]
print("| | CPU ms a picture | times ours | peak MB | peak MB, one 24 MP JPEG |\n| --- | --- | --- | --- | --- |")
for tool, command in tools.items():
    print(f"| {tool} | {best[tool] / count * 1000:.1f} | {best[tool] / mine:.2f} | {memory[tool]:.0f} | {run(command, large)[1]:.0f} |")
