"""A real vLLM server on the CPU: one process group, started on a free port of loopback, and ended as a whole."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from bakeoff.settings import CHECKOUT

PYTHON = CHECKOUT / ".venv-vllm" / "bin" / "python"
START_TIMEOUT_S = 300


class RealVllm:
    """The small model with room for two adapters in float32, which answers as PEFT does."""

    def __init__(self, model_dir: Path, log_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._model_dir = model_dir
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; on the same port as before."""
        command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._model_dir)]
        command += ["--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "16"]
        command += ["--generation-config", "vllm"]
        command += ["--enable-lora", "--max-loras", "2", "--max-lora-rank", "16", "--enable-prompt-tokens-details"]
        command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        environ = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(min(2, os.cpu_count() or 1)),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"vLLM did not start; its log: {self._log_path}"
            try:
                if httpx.get(f"{self.url}/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"vLLM did not answer in time; its log: {self._log_path}")

    def kill(self) -> None:
        """End it and its workers at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def models(self) -> set[str]:
        """Names that it serves."""
        return {model["id"] for model in httpx.get(f"{self.url}/v1/models", timeout=30).json()["data"]}

    def num_running(self) -> float:
        """Requests that its engine is busy with, by its own count."""
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
            if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
        )
