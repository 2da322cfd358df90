"""How soon a trained adapter answers on every server: one service, a real vLLM and a second server without a model."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from live_service import DOMAIN
from openai import OpenAI
from real_vllm import RealVllm
from scripted_service import running
from scripted_vllm import ScriptedVllm

from bakeoff.adapters import list_events
from bakeoff.database import open_database
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.app import create_app

pytestmark = pytest.mark.vllm

LIVE_WITHIN_S = 10.0


class StubThread:
    """A second server without a model, beside the real one, that reproduces every probe of the home."""

    def __init__(self, home: Path) -> None:
        self.stub = ScriptedVllm(home=home)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> ScriptedVllm:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.stub.start(), self.loop).result(30)
        return self.stub

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.stub.stop(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


def test_trained_adapter_answers_on_every_replica_within_seconds(
    settings: Settings, promoted: str, embedder: Embedder, vllm: RealVllm
) -> None:
    """From the event that ends `bakeoff train`, the promotion, to proved and asked on each of two servers."""
    home = settings.home
    environ = {**os.environ, "BAKEOFF_HOME": str(home), "BAKEOFF_VLLM_URLS": vllm.url}
    command = [sys.executable, "-m", "bakeoff.cli.main", "train", "--domain", DOMAIN, "--tokens", "6000"]
    with StubThread(home) as stub:
        stub_settings = Settings(home=home, vllm_urls=f"{vllm.url},{stub.url}", vllm_tolerance=0.01)
        stub.base = "smollm2"
        with running(create_app(stub_settings, embedder=embedder)) as url:
            trained = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=900, check=False)
            assert trained.returncode == 0, trained.stderr
            engine = open_database(settings.url, home)
            with engine.connect() as connection:
                [event] = [one for one in list_events(connection, DOMAIN) if one.event == "promoted"][-1:]
            engine.dispose()
            assert event.digest != promoted
            client = OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300, max_retries=0)
            deadline = time.monotonic() + 120
            while not (event.digest in stub.adapters and event.digest in vllm.models()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            answer = client.chat.completions.create(
                model=f"{DOMAIN}/fine-tuned", messages=[{"role": "user", "content": "Is there a gym?"}], max_tokens=1
            )
            seconds = (datetime.now(UTC) - event.at).total_seconds()
    assert answer.usage is not None
    sys.stderr.write(f"\nfrom promotion to an answer, proved on 2 servers: {seconds:.1f} s\n")
    assert seconds < LIVE_WITHIN_S
