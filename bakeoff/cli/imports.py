"""`bakeoff adapters import`: a LoRA folder that PEFT wrote elsewhere becomes an artefact like any other.

It is checked first: its matrices have to fit this base model, its chat template, if it brings one, has to be the base
model's, and nothing but its weights and config is taken over. What it learned from is not known and its card says so.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec

from bakeoff.adapter_files import CONFIG_FILE, TEMPLATE_FILE, WEIGHTS_FILE, check_template, read_pairs, read_template
from bakeoff.adapters import Adapter, register_adapter
from bakeoff.artefacts import adapters_dir, refuse_pickles
from bakeoff.cli.promotion import look_up, refresh_card
from bakeoff.cli.workspace import Workspace
from bakeoff.database import writing
from bakeoff.domains import ensure_domain
from bakeoff.errors import NotFound
from bakeoff.models import find_model, hash_model
from bakeoff.tensors import Tensors


def import_adapter(workspace: Workspace, domain: str, source: Path) -> Adapter:
    """Check a PEFT folder, write it as an artefact with method `imported`, and register it.

    Raises:
        NotFound: no such folder.
        Mismatch: it holds a pickle, is more than LoRA or DoRA, or does not fit the base model or its chat template.
    """
    from training.adapter import write_adapter

    if not source.is_dir():
        raise NotFound(f"{source} is no folder; name the one that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    base_dir = find_model(workspace.settings)
    template = read_template(base_dir)
    refuse_pickles(source, f"adapter {source.name}")
    if (source / TEMPLATE_FILE).is_file():
        check_template(source, template, base_dir.name)
    base = Tensors(base_dir.glob("*.safetensors"))
    read_pairs(source, {name: base.shape(name) for name in base.names})
    config = msgspec.json.decode((source / CONFIG_FILE).read_bytes(), type=dict)
    trained_on = str(config.get("base_model_name_or_path", ""))

    def save(folder: Path) -> None:
        shutil.copyfile(source / WEIGHTS_FILE, folder / WEIGHTS_FILE)
        config["base_model_name_or_path"] = base_dir.name
        (folder / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(config)))

    facts: dict[str, Any] = {
        "domain": domain,
        "method": "imported",
        "base_model": base_dir.name,
        "base_sha256": hash_model(base_dir),
        "trained_on": Path(trained_on).name,
        "seed": None,
        "lineage": {"documents": [], "examples": []},
    }
    digest = write_adapter(adapters_dir(workspace.settings.home), facts, chat_template=template, save=save)
    with writing(workspace.engine) as connection:
        ensure_domain(connection, domain)
        register_adapter(connection, domain, digest, event="imported")
    adapter = look_up(workspace, domain, digest)
    refresh_card(workspace, adapter)
    return adapter
