"""What the README shows runs as it stands, with a small stack in the place of `mini` and one epoch of training."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from speechprompt import stack, stack_folder, training
from speechprompt.cli import run
from speechprompt.train_config import TrainConfig
from tasks import get_task
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio, write_audio

ROOT = Path(__file__).resolve().parent.parent
N_CLIPS_PER_DIGIT = 10


def blocks(document: str, language: str) -> list[str]:
    """The fenced code of one language in a document of the project."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_lines(command: str) -> list[list[str]]:
    """The README's shell lines that begin with a command, as arguments without it."""
    lines = [
        shlex.split(line, comments=True) for block in blocks("README.md", "sh") for line in block.splitlines()
    ]
    return [line[1:] for line in lines if line[:1] == [command]]


@pytest.fixture
def after_quickstart(tiny_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the README's reader has it after `make quickstart`, with own words, and a small `mini`."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "mini").symlink_to(tiny_stack, target_is_directory=True)
    for module in (stack, stack_folder):
        monkeypatch.setattr(module, "ASSETS", tmp_path / "stacks")

    here = tmp_path / "here"
    write_audio(here / "quickstart" / "sentence.wav", read_audio(READ_SENTENCE))
    clips = get_task("spoken_digits").utterances("test")
    for number in (1, 2):
        write_audio(here / "quickstart" / f"clip_{number}.wav", read_audio(clips[number].path))
    words = here / "my_words"
    chosen = [clip for digit in "01" for clip in clips if clip.target == digit][: 4 * N_CLIPS_PER_DIGIT]
    words.mkdir()
    for split, part in (("train", chosen[::2]), ("test", chosen[1::2])):
        for clip in part:
            shutil.copy(clip.path, words)
        rows = [f"{clip.path.name},{clip.target}" for clip in part]
        (words / f"{split}.csv").write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    monkeypatch.chdir(here)
    return here


def test_make_knows_the_two_commands() -> None:
    assert shell_lines("make") == [["quickstart"], ["test"]]
    for target in ("quickstart", "test", "lint"):
        shown = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert "make_venv.sh" in shown


def test_python_lines_run(after_quickstart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TrainConfig", partial(TrainConfig, speed_perturbation=(), max_epochs=1))
    lines, _ = blocks("README.md", "python")
    names: dict[str, object] = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert (after_quickstart / "runs" / "digits" / "prompt.safetensors").is_file()
    sentence = read_audio("quickstart/sentence.wav")
    assert abs(len(read_audio("again.wav")) - len(sentence)) < 1600
    # Two seconds heard and four made.
    assert abs(len(read_audio("continued.wav")) / 16_000 - 6.0) < 0.5


def test_shell_lines_run(after_quickstart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shell_lines("speechprompt")
    assert {line[0] for line in lines} >= {
        "train",
        "evaluate",
        "predict",
        "quantize",
        "resynthesize",
        "continue",
        "inpaint",
    }
    for line in lines:
        words = [
            name for word in line for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        if line[0] == "train":
            words += ["--max-epochs", "1"]
        if line[0] == "inpaint":  # the small `mini` has nothing that fills gaps
            words += ["--stack", str(ROOT / "speechprompt" / "assets" / "mini")]
        assert run(words) == 0, f"{words}\n{capsys.readouterr().err}"
    for made in (
        "runs/digits-2/run.json",
        "runs/my_words/run.json",
        "again.wav",
        "continued.wav",
        "mended.wav",
        "units.store",
        "tables/report.html",
    ):
        assert Path(made).exists()
    (store_lines,) = blocks("docs/formats.md", "python")
    capsys.readouterr()
    exec(compile(store_lines, "formats.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == len(list(Path("quickstart").glob("*.wav")))


def test_task_file_is_a_task(tmp_path: Path) -> None:
    _, source = blocks("README.md", "python")
    names: dict[str, object] = {}
    exec(compile(source, "folder_words.py", "exec"), names)
    for word in ("yes", "no"):
        for number in range(20):
            file = tmp_path / word / f"{number:02}.wav"
            file.parent.mkdir(exist_ok=True)
            file.touch()
    task = names["load"](tmp_path)
    assert task.labels == ("no", "yes")
    assert [len(task.utterances(split)) for split in ("train", "valid", "test")] == [32, 4, 4]


def test_links_of_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"
