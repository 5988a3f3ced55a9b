"""The verbs under one name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from speechprompt import __version__
from speechprompt.cli.audio_verbs import quantize, resynthesize
from speechprompt.cli.checkpoint_verbs import convert
from speechprompt.cli.continue_verb import continue_
from speechprompt.cli.demo_verb import demo
from speechprompt.cli.evaluate_verb import evaluate
from speechprompt.cli.file_verbs import fetch
from speechprompt.cli.inpaint_verb import inpaint
from speechprompt.cli.predict_verb import predict
from speechprompt.cli.pretrain_verb import pretrain
from speechprompt.cli.score_verb import score
from speechprompt.cli.serve_verb import serve
from speechprompt.cli.start_verbs import quickstart
from speechprompt.cli.suite_verb import suite
from speechprompt.cli.train_verb import train
from speechprompt.cli.translate_verb import translate

app = typer.Typer(
    name="speechprompt",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_VERBS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart,
    "quantize": quantize,
    "pretrain": pretrain,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "score": score,
    "suite": suite,
    "resynthesize": resynthesize,
    "continue": continue_,
    "inpaint": inpaint,
    "translate": translate,
    "demo": demo,
    "serve": serve,
    "fetch": fetch,
    "convert": convert,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"speechprompt {__version__}")
        raise typer.Exit


@app.callback()
def speechprompt(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    """Prompt-tune one frozen unit language model for any speech task.

    Begin with: speechprompt quickstart --out quickstart
    """
