"""What the page works with: a stack, what fills gaps, runs that label, limits, and the shelf for results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from speechprompt.demo.clip import Clip, open_clip
from speechprompt.demo.limits import Limits
from speechprompt.demo.shelf import Shelf
from speechprompt.generate.inpainter import Inpainter, InpaintingConfig
from speechprompt.generate.inpainting_run import TASK, load_inpainting_run, plain_inpainter
from speechprompt.named_runs import parse_runs
from speechprompt.report.colours import unit_colours
from speechprompt.run import Run, load_run
from speechprompt.run_record import RunError, read_record
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack


@dataclass(frozen=True, eq=False)
class Studio:
    """Everything behind the page.

    stack: hears, continues and speaks. inpainter: fills gaps; None where the stack cannot. inpainter_note: what a
    visitor should know of it, plain text. runs: folders of runs that label, by name. limits: of what is taken.
    shelf: for results. device: where runs on other stacks are loaded.
    """

    stack: Stack
    inpainter: Inpainter | None
    inpainter_note: str
    runs: Mapping[str, Path]
    limits: Limits
    shelf: Shelf
    device: str = "cpu"
    _opened: dict[str, Run] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def colours(self) -> list[str]:
        """One per unit; units that sound alike look alike."""
        return unit_colours(self.stack.spec.n_units, self.stack.quantizer.centroids)

    def clip(self, file: str | Path | None) -> Clip:
        """Open a recording. Raises ClipError: see `open_clip`."""
        return open_clip(file, self.stack.quantizer.sample_rate, self.limits)

    def run(self, name: str) -> Run:
        """Open a run at its first use. Raises: as `load_run`."""
        if name not in self._opened:
            folder = self.runs[name]
            same = read_record(folder).stack == self.stack.source
            stack = self.stack if same else None  # loaded once where they share it
            self._opened[name] = load_run(folder, stack=stack, device=self.device)
        return self._opened[name]

    def warm_up(self) -> None:
        """Load every part, so that no visitor waits for it. Raises: as `Stack` and `run`, for what cannot be had."""
        _ = self.stack.quantizer, self.stack.lm, self.stack.vocoder, self.colours
        for name in self.runs:
            self.run(name)


def open_studio(
    stack: str | None,
    folder: Path,
    *,
    inpaint_run: Path | None = None,
    runs: str = "",
    limits: Limits | None = None,
    device: str = "cpu",
) -> Studio:
    """Open what the command line names.

    stack: name or folder; None for the inpainting run's, without one mini. folder: for results; it is the page's own.
    runs: `A,NAME=B`, folders of runs that label or write down speech.
    Raises: StackError, RunError, UnitSpecMismatch: as `load_stack` and `load_run`; RunError: two runs of one name.
    """
    limits = limits or Limits()
    inpainter: Inpainter | None
    if inpaint_run is not None:
        opened = load_inpainting_run(inpaint_run, stack=stack, device=device)
        parts, inpainter, note = opened.stack, opened.inpainter(), ""
    else:
        parts = load_stack(stack or "mini", device)
        inpainter, note = _own_inpainter(parts)
    return Studio(parts, inpainter, note, _folders(runs), limits, Shelf(folder, limits.takes), device)


def _own_inpainter(stack: Stack) -> tuple[Inpainter | None, str]:
    """What fills gaps where no run is given: the stack's own prompt, its plain model, or nothing; and a note."""
    shipped = stack.shipped_prompt(TASK)
    if shipped is not None:
        return load_inpainting_run(shipped, stack=stack).inpainter(), ""
    if (stack.seq2seq_part or stack.lm_part)["family"] == "unit_mbart":
        return plain_inpainter(stack, InpaintingConfig(masked=True)), (
            f"The stack {stack.name} brings no prompt for inpainting: its plain language model fills the gap, which it "
            "was not trained for. Train a prompt (speechprompt train --task inpainting) and start the page with "
            "--inpaint-run."
        )
    return None, (
        f"Inpainting needs a unit mBART, and the stack {stack.name} has none. Start the page with a stack that has one "
        "and a prompt trained for it: speechprompt demo --stack FOLDER --inpaint-run RUN. docs/inpainting.md says how "
        "both are made. The other tabs work."
    )


def _folders(runs: str) -> dict[str, Path]:
    """Folders of runs by name; each is looked into, none is opened."""
    folders: dict[str, Path] = {}
    for name, folder in parse_runs(runs) if runs else []:
        record = read_record(folder)
        name = name or Path(folder).resolve().name
        if name in folders:
            raise RunError(
                f"--runs: expected a name for every run, got {name!r} twice; write NAME=FOLDER for one of them"
            )
        if record.generation:
            raise RunError(
                f"{folder}: expected a run that labels or writes down speech, got one of {record.task}; "
                "give it with --inpaint-run"
            )
        folders[name] = Path(folder)
    return folders
