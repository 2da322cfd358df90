"""`bakeoff models`: get the base model and the embedder into the form that serves."""

import click

from bakeoff.cli.output import say, step
from bakeoff.cli.workspace import Workspace
from bakeoff.models import convert_shipped_model, find_embedder, find_model


@click.group("models")
def models_command() -> None:
    """Prepare the base model and the embedder."""


@models_command.command("prepare")
def prepare() -> None:
    """Convert the base model and the embedder into the forms that train and serve; what is done already is skipped."""
    from bakeoff.models import SHIPPED_MODEL
    from service.embedded.export import export_base

    workspace = Workspace()
    settings = workspace.settings
    if settings.model == SHIPPED_MODEL:
        with step("Converting the base model to safetensors"):
            convert_shipped_model(settings)
    folder = find_model(settings)
    with step("Exporting the base model for the embedded engine"):
        export_base(folder, settings.models / "engines", settings.engine_precision)
    with step("Converting the embedder"):
        name = workspace.embedder.name
    say(f"Base model: {folder}. Embedder: {find_embedder(settings)}, as {name}")


@models_command.command("probe")
def probe() -> None:
    """Write down what the base model computes here, so that the service can compare what vLLM serves.

    The service does this by itself where a probe is missing.
    """
    from bakeoff.cli.probing import probe_base
    from bakeoff.probes import probe_path

    workspace = Workspace()
    written = probe_base(workspace)
    say(f"{len(written.pairs)} targets of the base model are in {probe_path(workspace.settings.home, written.name)}")
