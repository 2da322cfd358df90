"""What an example asks for, so that one adapter can learn several things: to answer, classify, extract, summarise.

A task is a wording of the prompt and nothing else. An example says its task in the tag `task`, a caller in
`metadata.task` of the request; both default to `answer`. Scoring asks for the task of the example.
"""

from msgspec import Struct

from bakeoff.errors import BadInput


class Task(Struct, frozen=True):
    """How a text of one task is put to the model."""

    name: str
    instruction: str
    asks: str
    """What the caller's text is called in the prompt."""
    gives: str
    """What the model's text is called in the prompt."""


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("answer", "Answer the question in one short sentence.", "Question", "Answer"),
        Task("classification", "Name the category of the message, and nothing else.", "Message", "Category"),
        Task(
            "entities",
            "List the names, places, dates and amounts in the message, separated by commas.",
            "Message",
            "Entities",
        ),
        Task("sentiment", "Say in one word if the message is positive, negative or neutral.", "Message", "Sentiment"),
        Task("summarisation", "Summarise the text in one or two sentences.", "Text", "Summary"),
    )
}
"""The only place where a task is defined."""

ANSWER = TASKS["answer"]


def find_task(name: object) -> Task:
    """Return the task of this name.

    Raises:
        BadInput: names the tasks there are.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise BadInput(f"task {name!r} does not exist. Tasks: {', '.join(TASKS)}", param="metadata")
    return TASKS[name]
