"""What holds for every task: a whole tree gives disjoint, repeatable splits; a partial one an error naming the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import TASKS, ManifestError, get_task
from tasks.metrics import MEASURES
from tasks.names import NAMES, VARIANTS
from tasks.registry import get_source
from tasks.table import markdown_table
from tests.tasks.miniature import MINIATURES, Miniature
from units.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
BRING_THEIR_DATA = {"spoken_digits", "continuation", "csv_classification", "inpainting", "translation"}


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Miniature]]:
    """Every miniature, made once, by the name of its task."""
    made: dict[Callable[[Path], Miniature], tuple[Path, Miniature]] = {}
    for name, build in MINIATURES.items():
        if build not in made:
            root = tmp_path_factory.mktemp(name)
            made[build] = (root, build(root))
    return {name: made[build] for name, build in MINIATURES.items()}


def test_every_task_has_a_miniature() -> None:
    assert set(NAMES) - set(MINIATURES) == BRING_THEIR_DATA
    assert set(MINIATURES) <= set(TASKS)
    assert {home for home, _ in VARIANTS.values()} <= set(NAMES)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_whole_tree_is_a_task(name: str, trees: dict[str, tuple[Path, Miniature]]) -> None:
    root, miniature = trees[name]
    task = get_task(name, root)
    source = get_source(name)
    assert source is not None and task.name == name and task.metrics == source.metrics
    assert set(task.metrics) <= set(MEASURES)
    splits = {split: task.utterances(split) for split in ("train", "valid", "test")}
    assert tuple(map(len, splits.values())) == miniature.n
    everything = [utterance for utterances in splits.values() for utterance in utterances]
    assert len({utterance.id for utterance in everything}) == len(everything)
    assert all(utterance.path is not None and utterance.path.is_file() for utterance in everything)
    if task.kind == "classification":
        assert {utterance.target for utterance in splits["train"]} == set(task.labels)
        assert len(set(task.labels)) == len(task.labels)
    else:
        assert all(utterance.target for utterance in everything)
    again = get_task(name, root)
    assert [again.utterances(split) for split in splits] == list(splits.values())


@pytest.mark.parametrize("name", MINIATURES)
def test_a_partial_tree_names_what_is_missing(
    name: str, trees: dict[str, tuple[Path, Miniature]], tmp_path: Path
) -> None:
    root, miniature = trees[name]
    for relative in miniature.needed:
        part = root / relative
        aside = tmp_path / "aside"
        shutil.move(part, aside)
        try:
            with pytest.raises(ManifestError) as caught:
                get_task(name, root)
        finally:
            shutil.move(aside, part)
        message = str(caught.value)
        assert part.name in message and str(root) in message and "\n" not in message
    get_task(name, root)  # and nothing is missing again


@pytest.mark.parametrize("name", [name for name in TASKS if name not in BRING_THEIR_DATA])
def test_no_folder_or_an_empty_one_says_where_to_get_the_data(name: str, tmp_path: Path) -> None:
    source = get_source(name)
    assert source is not None
    with pytest.raises(InputError, match="--data") as caught:
        get_task(name)
    assert source.url in str(caught.value) and source.licence in str(caught.value)
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ManifestError) as wrong:
            get_task(name, root)
        assert str(tmp_path) in str(wrong.value)


def test_the_document_has_the_table_of_the_registry() -> None:
    document = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert markdown_table() in document, "run python -m tasks.table and paste its table"
    assert all(f"`{name}`" in document for name in TASKS)
