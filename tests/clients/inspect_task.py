"""A task for inspect_ai: a few questions of the sample domain that ask for one value. Run it from this folder."""

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def concierge() -> Task:
    """Whether the value stands in the answer."""
    questions = json_dataset("concierge.jsonl", FieldSpec(input="question", target="value", id="id"))
    return Task(dataset=questions, solver=generate(), scorer=includes())
