"""Tables of recordings: what is read, and what each wrong table says."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.base import ManifestError
from tasks.csv_table import check_listed_once, read_table
from units.errors import InputError

GOOD = "path,label,speaker,split\na.wav,yes,ann,train\nb/c.wav,no,bob,test\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    for name in ("a.wav", "b/c.wav", "b/d e, f.wav"):
        (tmp_path / name).touch()
    return tmp_path


def written(folder: Path, content: str | bytes) -> Path:
    table = folder / "table.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return table


def test_reads_every_column_and_the_line(folder: Path) -> None:
    rows = read_table(written(folder, GOOD))
    assert [(row.relative, row.label, row.speaker, row.split, row.line) for row in rows] == [
        ("a.wav", "yes", "ann", "train", 2),
        ("b/c.wav", "no", "bob", "test", 3),
    ]
    assert rows[1].path == folder / "b/c.wav"


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,  # byte order mark, as spreadsheets write it
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("path,", "Path ,"),
        GOOD.replace("\n", "\n\n"),  # blank lines
        GOOD.replace("b/c.wav", "./b/../b/c.wav"),  # stays inside the folder
        GOOD.rstrip("\n"),
    ],
)
def test_harmless_variants_read_the_same(folder: Path, content: str) -> None:
    expected = [
        (row.relative, row.label, row.speaker, row.split) for row in read_table(written(folder, GOOD))
    ]
    rows = read_table(written(folder, content))
    assert [(row.relative, row.label, row.speaker, row.split) for row in rows] == expected


def test_optional_columns_may_be_absent_or_empty_and_others_are_ignored(folder: Path) -> None:
    (row,) = read_table(written(folder, "text,label,path,speaker\nhello,yes,a.wav,\n"))
    assert (row.label, row.speaker, row.split) == ("yes", None, None)


@pytest.mark.parametrize(
    "label", ["نعم", "افتح الباب", "打开 灯", "zoom in", "می‌خواهم", "0", 'say "hi"', "a,b"]
)
def test_labels_in_any_script_with_spaces_and_quotes(folder: Path, label: str) -> None:
    quoted = '"' + label.replace('"', '""') + '"'
    (row,) = read_table(written(folder, f'path,label\n"b/d e, f.wav",{quoted}\n'))
    assert row.label == label
    assert row.relative == "b/d e, f.wav"


def test_composed_and_decomposed_letters_are_one_label(folder: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    rows = read_table(written(folder, f"path,label\na.wav,{composed}\nb/c.wav,{decomposed}\n"))
    assert composed != decomposed
    assert rows[0].label == rows[1].label


BAD = {
    "no label column": ("path,word\na.wav,yes\n", ["line 1", "'path,word'", "'label'"]),
    "no path column": ("file,label\na.wav,yes\n", ["line 1", "add the column 'path'"]),
    "semicolons": ("path;label\na.wav;yes\n", ["separate the columns by commas"]),
    "tabs": ("path\tlabel\na.wav\tyes\n", ["separate the columns by commas"]),
    "column twice": ("path,label,label\na.wav,yes,no\n", ["'label' twice"]),
    "empty file": ("", ["empty file"]),
    "blank file": ("\n \n", ["empty file"]),
    "header only": ("path,label\n", ["at least one row"]),
    "not UTF-8": ("path,label\na.wav,caf\xe9\n".encode("latin-1"), ["line 2", "UTF-8", "0xe9"]),
    "UTF-16": ("path,label\na.wav,yes\n".encode("utf-16"), ["UTF-8", "UTF-16"]),
    "NUL": ("path,label\na.wav,\0\n", ["line 2", "NUL"]),
    "absolute path": ("path,label\n/etc/passwd,yes\n", ["line 2", "absolute", "/etc/passwd"]),
    "drive": ("path,label\nC:\\a.wav,yes\n", ["line 2", "absolute"]),
    "name too long": (f"path,label\n{'x' * 5000},yes\n", ["line 2", "no file"]),
    "escaping path": ("path,label\na.wav,yes\nb/../../x.wav,no\n", ["line 3", "leaves"]),
    "the parent": ("path,label\n..,yes\n", ["line 2", "leaves"]),
    "empty path": ("path,label\n,yes\n", ["line 2", "expected a path"]),
    "a folder": ("path,label\nb,yes\n", ["line 2", "'b'"]),
    "empty label": ("path,label\na.wav, \n", ["line 2", "expected a label"]),
    "label of two lines": ('path,label\na.wav,"y\nes"\n', ["line 2", "one line"]),
    "cell missing": ("path,label\na.wav\n", ["line 2", "2 values", "got 1"]),
    "unquoted comma": ("path,label\na.wav,yes, please\n", ["line 2", "got 3", "quotes"]),
    "quote left open": ('path,label\na.wav,"yes\nb/c.wav,no\n', ["line 2", 'close every "']),
    "text after a quote": ('path,label\na.wav,"yes" sir\n', ["line 2", 'close every "']),
    "listed twice": ("path,label\na.wav,yes\nb/c.wav,no\n./a.wav,no\n", ["line 4", "line 2", "'a.wav'"]),
    "recordings missing": (
        "path,label\na.wav,yes\nx.wav,no\ny.wav,no\n",
        ["line 3", "'x.wav'", "1 more of 3"],
    ),
    "backslashes": ("path,label\nb\\c.wav,yes\n", ["line 2", "write / between folders"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_say_file_line_and_remedy_in_one_line(folder: Path, name: str) -> None:
    content, fragments = BAD[name]
    table = written(folder, content)
    with pytest.raises(ManifestError) as caught:
        read_table(table)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in [str(table), "expected", "got", "; ", *fragments]:
        assert fragment in message


def test_missing_table_and_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.csv: expected a CSV file, got no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="got a folder"):
        read_table(tmp_path)


def test_a_table_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    table = written(folder, GOOD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ManifestError, match=r"cannot be read \(Permission denied\); check its permissions"):
        read_table(table)


def test_a_recording_in_two_tables_names_both(folder: Path) -> None:
    first = read_table(written(folder, GOOD))
    other = folder / "other.csv"
    other.write_text("path,label\na.wav,yes\n")
    with pytest.raises(ManifestError, match=r"other\.csv line 2: .*table\.csv line 2"):
        check_listed_once(first + read_table(other))


@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: f"path,label\n{text}".encode()))
def test_whatever_the_bytes_the_only_error_is_an_input_error(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = tmp_path_factory.getbasetemp() / "wild.csv"
    table.write_bytes(content)
    try:
        rows = read_table(table)
    except InputError as error:
        assert "wild.csv" in str(error)
    else:
        assert all(row.path.is_file() for row in rows)


@given(
    labels=st.lists(
        st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8), min_size=1, max_size=5
    )
)
def test_labels_survive_writing_and_reading(
    labels: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for i, label in enumerate(labels):
            (folder / f"{i}.wav").touch()
            writer.writerow([f"{i}.wav", label])
    read = [row.label for row in read_table(folder / "labels.csv")]
    assert read == [unicodedata.normalize("NFC", label) for label in labels]
