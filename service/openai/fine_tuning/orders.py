"""A request to fine-tune -> a job: which domain learns, from which stored file, by which command line.

`model` says what learns: `<domain>/<mode>` or a domain's name trains for that domain, the base model's name makes a
new one, named by the suffix. Nothing is promoted: the job's model is pinned to the adapter that it made.
"""

import re
import secrets
from pathlib import Path
from typing import Any

from litestar import Request
from msgspec import Struct, to_builtins
from sqlalchemy import Connection

from bakeoff.domains import list_domains
from bakeoff.errors import BadInput, NotFound
from bakeoff.jobs import ENDED, Job, list_jobs, new_job_id, submit_job
from bakeoff.modes import parse_model_name
from bakeoff.settings import Settings
from service.callers import Caller
from service.openai.aliases import read_aliases
from service.openai.files.folder import files_dir
from service.openai.files.records import find_file
from service.openai.fine_tuning.schemas import (
    MAX_SEED,
    Dpo,
    FineTuningRequest,
    Hyperparameters,
    Method,
    Supervised,
)
from service.openai.sampling import Metadata
from service.openai.unsupported import refuse

PREFIX = "ftjob-"
DETAILS_KEY = "fine_tuning"
"""Of a job's `details`: its `Order`."""


class Order(Struct, frozen=True):
    """What was ordered, as the job's row keeps it."""

    model: str
    training_file: str
    validation_file: str | None
    method: Method
    suffix: str | None
    seed: int
    metadata: Metadata | None
    files: dict[str, str]
    """Path on our disk -> id of the file, for messages that leave the machine."""


class _Learner(Struct, frozen=True):
    """What learns."""

    domain: str
    start: str
    """What preferences start from: `base`, `promoted`, or an adapter's digest."""


def read_method(request: Request[Any, Any, Any], body: FineTuningRequest) -> Method:
    """How to learn, everything that stands in the way refused by name.

    Raises:
        BadInput: names the parameter.
    """
    refuse(request, ["integrations"] if body.integrations else [], "here: follow the job by its events")
    method = body.method
    if method is not None and method.type == "reinforcement":
        raise BadInput("method.type 'reinforcement' is not supported; use 'supervised' or 'dpo'", param="method.type")
    kind = "supervised" if method is None else method.type
    others = [] if method is None else [name for name in ("supervised", "dpo", "reinforcement") if name != kind]
    refuse(
        request, [f"method.{name}" for name in others if getattr(method, name) is not None], f"by a job of type {kind}"
    )
    if kind == "supervised":
        if method is not None and method.supervised is not None and body.hyperparameters is not None:
            refuse(request, ["hyperparameters"], "beside method.supervised; name them there")
        given = method.supervised if method is not None and method.supervised is not None else None
        return Method("supervised", supervised=given or Supervised(body.hyperparameters or Hyperparameters()))
    refuse(request, ["hyperparameters"] if body.hyperparameters else [], "by a job of type dpo; use method.dpo")
    dpo = (method.dpo if method is not None else None) or Dpo()
    if dpo.hyperparameters.batch_size == 1:
        raise BadInput(
            "batch_size has to be at least 2: preferences are learned in batches", param=f"{_DPO}.batch_size"
        )
    why = "by a job of type dpo, which holds out a fifth of the questions of training_file"
    refuse(request, ["validation_file"] if body.validation_file else [], why)
    return Method("dpo", dpo=dpo)


def place_order(
    connection: Connection, settings: Settings, caller: Caller, body: FineTuningRequest, method: Method
) -> Job:
    """Check model and files, and queue the job.

    Args:
        connection: in a transaction of `bakeoff.database.writing`.

    Raises:
        NotFound: no such model.
        BadInput: a file that is not there or cannot be learned from.
    """
    job_id = new_job_id(PREFIX)
    learner = _find_learner(connection, settings, body, job_id)
    validation_file = body.validation_file if method.type == "supervised" else None
    named = {"training_file": body.training_file} | ({"validation_file": validation_file} if validation_file else {})
    paths = {name: _find_path(connection, settings, caller, file_id, name) for name, file_id in named.items()}
    seed = secrets.randbelow(MAX_SEED + 1) if body.seed is None else body.seed
    order = Order(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        method=method,
        suffix=body.suffix,
        seed=seed,
        metadata=body.metadata,
        files={str(path): named[name] for name, path in paths.items()},
    )
    return submit_job(
        connection,
        "train",
        learner.domain,
        _words(learner, method, paths, seed),
        is_heavy=True,
        owner=caller.key_id,
        details={DETAILS_KEY: to_builtins(order)},
        job_id=job_id,
    )


_DPO = "method.dpo.hyperparameters"


def _words(learner: _Learner, method: Method, paths: dict[str, Path], seed: int) -> list[str]:
    if method.dpo is not None:
        knobs: Any = method.dpo.hyperparameters
        words = ["train", "preferences", str(paths["training_file"]), "--method", "dpo", "--from", learner.start]
    else:
        assert method.supervised is not None
        knobs = method.supervised.hyperparameters
        words = ["train", "--train-file", str(paths["training_file"]), "--no-promote"]
    if "validation_file" in paths:
        words += ["--validation-file", str(paths["validation_file"])]
    words += ["--domain", learner.domain, "--seed", str(seed)]
    options = {
        "n_epochs": "--epochs",
        "batch_size": "--batch-size",
        "learning_rate_multiplier": "--learning-rate-multiplier",
        "beta": "--beta",
    }
    for name, option in options.items():
        value = getattr(knobs, name, None)
        if value not in (None, "auto"):
            words += [option, str(value)]
    return words


def _find_learner(connection: Connection, settings: Settings, body: FineTuningRequest, job_id: str) -> _Learner:
    name = read_aliases(settings).get(body.model, body.model)
    domains = {domain.name for domain in list_domains(connection)}
    if name in (settings.model, settings.model.rstrip("/").rpartition("/")[2]):
        waiting = {job.domain for job in list_jobs(connection, "train") if job.status not in ENDED}
        return _Learner(_new_domain(body.suffix, job_id, domains | waiting), "base")
    if name in domains:
        return _Learner(name, "promoted")
    model = parse_model_name(name) if "/" in name else None
    if model is None or model.domain not in domains:
        known = ", ".join(sorted(domains)) or "there is none"
        raise NotFound(
            f"model {body.model!r} cannot be fine-tuned: name a domain ({known}), or {settings.model!r} for a new one",
            param="model",
        )
    if model.adapter is not None and (body.method is None or body.method.type != "dpo"):
        raise BadInput(
            f"model {body.model!r} is an adapter: supervised training starts from the base model. Leave @ and what "
            "follows out; only dpo goes on from an adapter",
            param="model",
        )
    return _Learner(model.domain, model.adapter or ("promoted" if model.mode.uses_adapter else "base"))


def _new_domain(suffix: str | None, job_id: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9_-]+", "-", (suffix or "").lower()).strip("-")[:56] or job_id
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name


def _find_path(connection: Connection, settings: Settings, caller: Caller, file_id: str, param: str) -> Path:
    try:
        file = find_file(connection, file_id, caller, param)
    except NotFound as error:
        raise BadInput(f"{error}. Upload it first, with purpose fine-tune", param=param) from error
    if file.purpose != "fine-tune":
        raise BadInput(f"file {file_id!r} has the purpose {file.purpose!r}; upload it as 'fine-tune'", param=param)
    if file.status == "error":
        raise BadInput(f"file {file_id!r} cannot be learned from: {file.status_details}", param=param)
    path = (files_dir(settings.home) / file.stored_as).resolve()
    if not path.is_file():
        raise BadInput(f"the content of file {file_id!r} is gone from the disk; upload it again", param=param)
    return path
