"""Any plain decoder of transformers can be exported, is checked against transformers, and nothing calls home."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM as Decoder
from transformers import GPTNeoXConfig, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from bakeoff.errors import BadInput, Mismatch, NotReady
from service.embedded.export import export_base, find_export

SIZES = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # with the usual 0.02 all tokens are about as likely, and no mistake would show
}
GROUPED = {**SIZES, "num_key_value_heads": 2}


def write_model(folder: Path, config: PreTrainedConfig) -> Path:
    torch.manual_seed(0)
    Decoder.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**GROUPED, tie_word_embeddings=False),
        Qwen2Config(**GROUPED, tie_word_embeddings=True),
        Qwen3Config(**GROUPED, head_dim=32),
        MistralConfig(**GROUPED, sliding_window=None),
        GPTNeoXConfig(**SIZES),
    ],
    ids=lambda config: config.model_type,
)
def test_decoders_of_other_families_agree_with_transformers(tmp_path, config):
    model_dir = write_model(tmp_path / "model", config)
    folder = export_base(model_dir, tmp_path / "engines")
    assert find_export(model_dir, tmp_path / "engines") == folder
    before = (folder / "openvino_model.bin").stat()
    assert export_base(model_dir, tmp_path / "engines") == folder
    assert (folder / "openvino_model.bin").stat() == before
    assert [path.name for path in (tmp_path / "engines").iterdir()] == [folder.name]


def test_attention_that_the_engine_cannot_compute_is_refused(tmp_path):
    model_dir = write_model(tmp_path / "model", MistralConfig(**GROUPED, sliding_window=16))
    with pytest.raises(BadInput, match="full causal attention"):
        export_base(model_dir, tmp_path / "engines")
    assert not any((tmp_path / "engines").glob("*"))


def test_an_export_of_other_weights_is_not_found(tmp_path):
    model_dir = tmp_path / "model"
    with pytest.raises(NotReady, match="bakeoff models prepare"):
        find_export(model_dir, tmp_path / "engines")
    write_model(model_dir, LlamaConfig(**GROUPED))
    with pytest.raises(NotReady, match="bakeoff models prepare"):
        find_export(model_dir, tmp_path / "engines")
    export_base(model_dir, tmp_path / "engines")
    write_model(model_dir, LlamaConfig(**GROUPED, rope_theta=500.0))
    with pytest.raises(Mismatch, match="other weights"):
        find_export(model_dir, tmp_path / "engines")


def test_openvino_cannot_reach_its_telemetry():
    program = (
        "import service.embedded.generator, service.embedded.export, service.embedded.graph, sys\n"
        "import openvino.tools.ovc.telemetry_utils as used\n"
        "assert used.tm.__name__ == 'openvino.tools.ovc.telemetry_stub', used.tm\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
