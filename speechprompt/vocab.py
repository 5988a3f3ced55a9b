"""The token inventory of a unit language model: four special tokens, then unit symbols in file order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from units.errors import InputError

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
_OVERWRITE = "#fairseq:overwrite"
MAX_DIGITS = 6  # of a unit number: tables are as long as the greatest one


def _is_number(symbol: str) -> bool:
    return symbol.isascii() and symbol.isdecimal()


def _plausible(symbol: str) -> bool:
    return not _is_number(symbol) or len(symbol) <= MAX_DIGITS


class UnitVocab:
    """Maps unit numbers to token ids and back.

    A unit number is a *symbol*: its id is its line in the dictionary plus 4, and the lines of a published
    `dict.txt` may be in order of frequency. Symbols that are not unit numbers (fillers such as `madeupword0000`)
    keep their id but stand for no unit.

    Source: the order of fairseq's Dictionary, `<s>`=0 `<pad>`=1 `</s>`=2 `<unk>`=3.

    Args:
        symbols: the symbols after the four special ones, in id order.
    Raises: InputError for a repeated symbol, what is no symbol, a number too great, or no unit number at all.
    """

    bos = 0
    pad = 1
    eos = 2
    unk = 3

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        wrong = next((s for s in self.symbols if not isinstance(s, str) or not _plausible(s)), None)
        if wrong is not None:
            raise InputError(
                f"vocabulary: expected symbols, unit numbers of at most {MAX_DIGITS} digits, got "
                f"{repr(wrong)[:40]}; check the dictionary file"
            )
        if len(set(self.symbols) | set(SPECIALS)) != len(self.symbols) + len(SPECIALS):
            raise InputError(
                "vocabulary: expected every symbol once, got a repeated one; check the dictionary file"
            )
        units = [(int(s), i) for i, s in enumerate(self.symbols, len(SPECIALS)) if _is_number(s)]
        if not units:
            raise InputError(
                "vocabulary: expected unit numbers among its symbols, got none; is it a unit dictionary?"
            )
        self.n_units = max(unit for unit, _ in units) + 1
        self._id_of_unit = np.full(self.n_units, -1, dtype=np.int64)
        self._unit_of_id = np.full(len(self), -1, dtype=np.int64)
        for unit, token_id in units:
            self._id_of_unit[unit] = token_id
            self._unit_of_id[token_id] = unit

    def __len__(self) -> int:
        return len(SPECIALS) + len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, UnitVocab) and self.symbols == other.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def __repr__(self) -> str:
        return f"UnitVocab({len(self.symbols)} symbols)"

    @classmethod
    def from_n_units(cls, n_units: int) -> UnitVocab:
        """Units 0 .. n_units - 1 in order, so that a unit's id is its number plus 4."""
        return cls([str(unit) for unit in range(n_units)])

    @classmethod
    def from_dict_txt(cls, path: str | Path) -> UnitVocab:
        """Read a dictionary file of lines `symbol count`, ids in the order of its lines.

        A symbol that a line marked `#fairseq:overwrite` repeats has that line's id. Raises: InputError for a missing
        file, a line of another form, or a symbol repeated without the mark.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: expected a dictionary file, got no such file; check the path")
        symbols: list[str] = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) < 2 or not fields[1].isdecimal():
                raise InputError(
                    f"{path}: expected lines `symbol count`, got {line[:40]!r} in line {number}; mend that line"
                )
            symbol = fields[0]
            if fields[-1] == _OVERWRITE and symbol in SPECIALS:  # whose ids stay those of the four first
                symbol += _OVERWRITE
            elif fields[-1] == _OVERWRITE and symbol in symbols:
                symbols[symbols.index(symbol)] += _OVERWRITE
            symbols.append(symbol)
        return cls(symbols)

    @property
    def unit_ids(self) -> np.ndarray:
        """Ids that stand for units, in the order of the unit numbers; int64."""
        return self._id_of_unit[self._id_of_unit >= 0]

    def encode(self, units: np.ndarray | Sequence[int]) -> np.ndarray:
        """Unit numbers (T,) to token ids (T,) int64. Raises: InputError for a unit the vocabulary lacks."""
        units = np.asarray(units, dtype=np.int64)
        outside = (units < 0) | (units >= self.n_units)
        ids = self._id_of_unit[np.where(outside, 0, units)]
        unknown = outside | (ids < 0)
        if unknown.any():
            raise InputError(
                f"unit {int(units[unknown][0])}: expected one of the language model's {len(self.unit_ids)} units; "
                "use units of the codebook the model was trained on"
            )
        return ids

    def decode(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        """Token ids (T,) to unit numbers (T,) int64. Raises: InputError for an id that stands for no unit."""
        ids = np.asarray(ids, dtype=np.int64)
        outside = (ids < 0) | (ids >= len(self))
        units = self._unit_of_id[np.where(outside, 0, ids)]
        if (units < 0).any():
            raise InputError(
                f"token id {int(ids[units < 0][0])}: expected the id of a unit; cut special tokens off before decoding"
            )
        return units


class UnitsFirstVocab(UnitVocab):
    """Units 0 .. n_units - 1 are their own ids; the four special tokens follow: pGSLM's order.

    Source: the UnitDictionary of fairseq's speech_unit_modeling task.

    Args:
        n_units: size of the codebook, at least 1.
    Raises: InputError for no units.
    """

    def __init__(self, n_units: int) -> None:
        super().__init__([str(unit) for unit in range(n_units)])
        self.bos, self.pad, self.eos, self.unk = range(n_units, n_units + len(SPECIALS))
        self._id_of_unit = np.arange(n_units, dtype=np.int64)
        self._unit_of_id = np.append(self._id_of_unit, np.full(len(SPECIALS), -1, dtype=np.int64))


class MBartVocab(UnitVocab):
    """Units, then a tag for each language and `<mask>`, which the training appends to its dictionary file.

    What the dictionary file already has is not appended again, as in the reference.

    Attributes:
        languages: names without brackets, "en_XX".
        mask: id of `<mask>`.
        unit_symbols: the symbols of the dictionary file.

    Args:
        symbols: the symbols of the dictionary file, in its order.
        languages: in the order of training; may be empty.
    """

    def __init__(self, symbols: Sequence[str], languages: Sequence[str]) -> None:
        tags = [f"[{language}]" for language in languages]
        super().__init__([*symbols, *(s for s in dict.fromkeys([*tags, "<mask>"]) if s not in symbols)])
        self.languages = tuple(languages)
        self.unit_symbols = tuple(symbols)
        self.mask = len(SPECIALS) + self.symbols.index("<mask>")

    def language_id(self, language: str) -> int:
        """Id of a language's tag. Raises: InputError for a language the model was not trained on."""
        if language not in self.languages:
            raise InputError(
                f"language: expected one of {', '.join(self.languages) or 'none'}, got {language!r}; choose another"
            )
        return len(SPECIALS) + self.symbols.index(f"[{language}]")
