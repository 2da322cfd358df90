"""curl, the client that is always there."""

import json
import shutil
import subprocess

import pytest
from live_service import Live
from real_clients import Show, guide

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def run(script: str) -> str:
    return subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_lines_of_the_guide_whole_and_streamed(live: Live, show: Show) -> None:
    [command] = guide("curl", live.url)
    answer = json.loads(run(command))
    assert answer["choices"][0]["message"]["content"]
    show(f"the guide's lines: {answer['choices'][0]['message']['content']!r}")
    streamed = run(command.replace("curl -s", "curl -sN").replace('"model"', '"stream": true, "model"'))
    lines = [line for line in streamed.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 4
    show(f'-N and "stream": true: {len(lines)} lines, data: [DONE] last')
