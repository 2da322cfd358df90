"""`bakeoff`: the entry of the command line. Commands are imported when they are called, so that `--help` is instant.

Results go to stdout, progress and logs to stderr. Exit status: 0 done; 1 an error the user can fix, in one sentence
with the next command; 2 wrong usage.
"""

import logging
import os
import sys
import warnings

import click
from sqlalchemy.exc import OperationalError

from bakeoff.cli.lazy import LazyGroup
from bakeoff.cli.reporting import report_to
from bakeoff.errors import BakeoffError

COMMANDS = {
    "demo": ("bakeoff.cli.demo", "Compare all modes on the sample domain, then serve them."),
    "serve": ("bakeoff.cli.serve", "Serve every domain in every mode behind the OpenAI API."),
    "documents": ("bakeoff.cli.documents", "Add, list and remove the documents of a domain."),
    "search": ("bakeoff.cli.search", "Find the passages nearest to a question."),
    "examples": ("bakeoff.cli.examples", "Import, check, split and write questions with their answers."),
    "tune": ("bakeoff.cli.tune", "Fit how a domain is searched to its validation questions."),
    "train": ("bakeoff.cli.train", "Train a LoRA adapter on a domain's training examples."),
    "adapters": ("bakeoff.cli.adapters", "Show, promote, roll back and remove adapters."),
    "eval": ("bakeoff.cli.eval", "Score modes side by side on held-out questions."),
    "ask": ("bakeoff.cli.ask", "Ask one question in one mode."),
    "jobs": ("bakeoff.cli.jobs", "List, follow, cancel, pause and resume queued work."),
    "worker": ("bakeoff.cli.worker", "Run queued work."),
    "replay": ("bakeoff.cli.replay", "Ask a stored question again and compare the answers."),
    "answers": ("bakeoff.cli.answers", "List, show and erase stored answers."),
    "keys": ("bakeoff.cli.keys", "Make, list and revoke API keys."),
    "vector-stores": ("bakeoff.cli.vector_stores", "Index the files that clients have put into vector stores."),
    "domains": ("bakeoff.cli.domains", "List and delete domains."),
    "models": ("bakeoff.cli.models", "Prepare the base model and the embedder."),
    "doctor": ("bakeoff.cli.doctor", "Check this machine and say what is missing."),
}


@click.group(
    cls=LazyGroup,
    commands_by_name=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="bakeoff")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr.")
@click.option("--progress-fd", type=click.IntRange(3), hidden=True, help="Of a job: report there, and end with stdin.")
def bakeoff(verbose: bool, progress_fd: int | None) -> None:
    r"""Fine-tune it, retrieve it, or both? Compare the three on your documents and questions, then serve the winner.

    \b
    First look:   bakeoff demo
    Your data:    bakeoff documents add docs/ --domain mine
                  bakeoff examples import train.jsonl --domain mine --split train
                  bakeoff examples import test.jsonl --domain mine --split test
                  bakeoff train --domain mine && bakeoff eval --domain mine && bakeoff serve

    State lives under BAKEOFF_HOME (default .bakeoff/ here).
    """
    if progress_fd is not None:
        report_to(progress_fd)
    level = logging.INFO if verbose else logging.WARNING
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns on import that CPUs have a slow path
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")


def main() -> None:
    """Run the command line; turn the errors a user can fix into one sentence and exit status 1."""
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft asks transformers for it
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")  # other libraries' bars; ours says disable=False
    try:
        bakeoff(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. Run the same command again to go on where it stopped.", err=True)
        sys.exit(130)
    except BakeoffError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (OperationalError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        click.echo(f"Error: {cause}. What was finished is kept; mend this and run the same command again.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
