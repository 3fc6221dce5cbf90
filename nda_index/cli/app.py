"""The command line: nda-index build | query | denoise | add | remove | compact | tune | serve | token | ..."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from nda_index import errors
from nda_index.cli import indexes, questions
from nda_index.cli.output import messages
from nda_index.errors import NdaIndexError
from nda_index.evaluate.commands import evaluate
from nda_index.serve.commands import serve, token
from nda_index.version import __version__


def list_exit_codes() -> dict[int, str]:
    """Return what each exit code says, from the errors that have one."""
    codes = {0: "success", 1: "verify found damage", 130: "interrupted"}
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, NdaIndexError) and "exit_code" in vars(error):
            meaning = (error.__doc__ or "").partition(".")[0]
            if error is not NdaIndexError:
                known = codes.get(error.exit_code)
                codes[error.exit_code] = f"{known}; or {_lower(meaning)}" if known else _lower(meaning)
    return dict(sorted(codes.items()))


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


app = typer.Typer(
    name="nda-index",
    help="Which training images is a picture made of?\n\nExit codes:\n\n"
    + "\n\n".join(f"{code}  {meaning}" for code, meaning in list_exit_codes().items()),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; errors become one line on standard error and an exit code."""
    try:
        app()
    except NdaIndexError as error:
        fail(error)
    except KeyboardInterrupt:
        messages.print("interrupted")
        sys.exit(130)


def fail(error: NdaIndexError) -> NoReturn:
    """Print an error as one line and exit with its code."""
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(error.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("build")(indexes.build_command)
app.command("query")(questions.query)
app.command("denoise")(questions.denoise)
app.command("add")(indexes.add)
app.command("remove")(indexes.remove)
app.command("compact")(indexes.compact_command)
app.command("tune")(indexes.tune_command)
app.command("serve")(serve)
app.command("token")(token)
app.command("evaluate")(evaluate)
app.command("info")(indexes.info)
app.command("verify")(indexes.verify_command)
