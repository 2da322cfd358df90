"""compose.yaml and the Dockerfile, as far as they can be checked where no container engine runs."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import msgspec
import pytest
import yaml

from bakeoff.cli.main import bakeoff
from bakeoff.settings import CHECKOUT, Settings, read_settings

OURS = ("service", "service-cpu", "worker", "worker-cpu")
COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ")


def instructions(name: str) -> Iterator[str]:
    for line in DOCKERFILE.splitlines():
        if line.startswith(f"{name} "):
            yield line.removeprefix(f"{name} ")


def test_it_is_a_compose_file() -> None:
    """By the Compose specification's own JSON schema (compose_spec.json, Apache-2.0)."""
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**COMPOSE, "services": {"service": {"comand": ["serve"]}}})


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    environment = {key: str(value).replace("${", "") for key, value in SERVICES[name]["environment"].items()}
    assert read_settings(environment).home == Path("/data")


def test_the_images_variables_are_settings() -> None:
    pairs = dict(word.split("=", 1) for line in instructions("ENV") for word in shlex.split(line))
    assert read_settings(pairs).models == Path("/models")


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_that_bakeoff_has(name: str) -> None:
    parse(SERVICES[name]["command"])


def test_the_commands_of_the_image_and_of_the_head_comment_exist() -> None:
    [entry] = instructions("ENTRYPOINT")
    assert json.loads(entry) == ["bakeoff"]
    for words in instructions("CMD"):
        parse(json.loads(words))
    [typed] = re.findall(r"run --rm worker (.*?) {2,}", (CHECKOUT / "compose.yaml").read_text())
    parse(shlex.split(typed))


def parse(words: list[str]) -> None:
    """Parse a command line as click does, without running it."""
    context = click.Context(bakeoff, info_name="bakeoff")
    command: click.Command = bakeoff
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        command, words = found, words[1:]
    command.make_context(command.name, list(words))


def test_nothing_has_a_default_password_and_only_loopback_is_published() -> None:
    for name, service in SERVICES.items():
        for key, value in (service.get("environment") or {}).items():
            if "PASSWORD" in key or "PASSWORD" in str(value):
                assert re.search(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", str(value)), (name, key)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"service", "service-cpu"}
    assert COMPOSE["networks"]["inside"]["internal"]


def test_every_profile_is_whole() -> None:
    """Whatever a profile's service needs is in that profile, and says when it is healthy."""
    for name, service in SERVICES.items():
        assert service["profiles"], name
        for needed, how in service.get("depends_on", {}).items():
            assert set(service["profiles"]) <= set(SERVICES[needed]["profiles"]), (name, needed)
            assert how["condition"] == "service_healthy"
            assert SERVICES[needed]["healthcheck"]["test"][0] == "CMD"
        named = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert named <= set(COMPOSE["volumes"])
    assert {profile for service in SERVICES.values() for profile in service["profiles"]} == {"gpu", "cpu"}


def test_every_image_has_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()] + list(instructions("FROM"))
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), image


def test_the_service_runs_without_root_and_finds_what_is_copied() -> None:
    assert list(instructions("USER")) == ["bakeoff"]
    for line in instructions("COPY"):
        for source in line.split()[:-1]:
            assert (CHECKOUT / source).exists(), source
    kept = [line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((CHECKOUT / path).exists() for path in kept)
    packages = msgspec.toml.decode((CHECKOUT / "pyproject.toml").read_bytes())
    assert set(packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(kept)
    for name in OURS:
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_vllm_serves_the_settings_model_and_takes_adapters_at_run_time() -> None:
    vllm = SERVICES["vllm"]
    assert f"--model=/models/{Settings().model}" in vllm["command"]
    assert "--enable-lora" in vllm["command"]
    assert vllm["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert "ports" not in vllm
