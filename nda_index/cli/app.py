"""The command line's entry: the commands, `main`, and what an error exits with."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from nda_index import errors
from nda_index.cli.copies import pull_command, push_command
from nda_index.cli.indexes import (
    add_command,
    build_command,
    compact_command,
    info_command,
    remove_command,
    tune_command,
    verify_command,
)
from nda_index.cli.output import messages, print_error
from nda_index.cli.questions import denoise_command, query_command
from nda_index.errors import INTERRUPTED, OUTCOMES, ConfigError, NdaIndexError, StorageError, find_remedy
from nda_index.evaluate.commands import evaluate
from nda_index.serve.commands import serve, token
from nda_index.version import __version__


def main() -> None:
    """Run the command line; errors become one line on standard error and an exit code."""
    try:
        sys.exit(app(prog_name="nda-index", standalone_mode=False) or 0)
    except NdaIndexError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except PermissionError as error:  # of a file that no room of the package speaks of
        print_error(StorageError(f"{error.filename!r}: {error.strerror}; {find_remedy(error, '')}"))
        sys.exit(StorageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        messages.print("interrupted" + ("; it goes on with --resume" if sys.argv[1:2] == ["build"] else ""))
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not hasattr(error, "format_message"):  # of what reads the command line
            raise
        if len(sys.argv) == 1 and hasattr(error, "show"):
            error.show()  # the help
        else:
            print_error(ConfigError(_explain_usage(error)))
        sys.exit(ConfigError.exit_code)


def _explain_usage(error: Any) -> str:
    """Say in one line what is wrong with the words of a command line."""
    said = error.format_message().rstrip(".")
    cause = getattr(error.__cause__, "errors", None)  # of the library that reads numbers
    value = repr(cause()[0]["input"]) if cause is not None else "it"
    said = re.sub(r"Input should be a valid integer.*", f"{value} must be a whole number", said)
    said = re.sub(r"Input should be a valid number.*", f"{value} must be a number", said)
    context = getattr(error, "ctx", None)
    path = "nda-index" if context is None else context.command_path
    if said.startswith("Got unexpected extra argument") and path.endswith((" build", " add")):
        said += ". There is one source: put a pattern in quotes, as 'photos/*.png', or give the folder"
    return f"{said[0].lower()}{said[1:]}; see {path} --help"


def exit_codes() -> dict[int, str]:
    """Return the exit codes and what each means; those of errors come from the classes in nda_index/errors.py."""
    meanings: dict[int, list[str]] = {0: ["Success."]}
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, NdaIndexError) and "exit_code" in vars(error):
            meanings.setdefault(error.exit_code, []).append((error.__doc__ or "").partition("\n")[0])
    meanings[NdaIndexError.exit_code] = ["`verify` found damage, or an error without a code of its own."]
    meanings |= {code: [meaning] for code, meaning in OUTCOMES.items()}
    meanings[INTERRUPTED] = ["Interrupted."]
    return {code: " ".join(meanings[code]) for code in sorted(meanings)}


def _describe_exit_codes() -> str:
    rows = [f"  {code:>3}  {meaning}" for code, meaning in exit_codes().items()]
    return "\n".join(["\b", "Exit codes:", *rows])  # \b: the lines stay as they are


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app = typer.Typer(
    name="nda-index",
    help="Which training images is a picture made of?" + "\n\n" + _describe_exit_codes(),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback()(_options)
app.command("build")(build_command)
app.command("query")(query_command)
app.command("denoise")(denoise_command)
app.command("add")(add_command)
app.command("remove")(remove_command)
app.command("compact")(compact_command)
app.command("push")(push_command)
app.command("pull")(pull_command)
app.command("tune")(tune_command)
app.command("serve")(serve)
app.command("token")(token)
app.command("evaluate")(evaluate)
app.command("info")(info_command)
app.command("verify")(verify_command)
