"""espeak-ng as a library: speech together with the times of its phones, which the command line does not tell."""

from __future__ import annotations

import ctypes
from ctypes.util import find_library
from functools import cache
from typing import Any

import numpy as np

# From espeak-ng's public header speak_lib.h.
_SYNCHRONOUS = 2  # output mode: samples and events come through the callback, before espeak_Synth returns
_PHONEME_EVENTS, _IPA_NAMES = 1, 2
_RATE, _PITCH = 1, 3
_UTF8 = 1
_LIST_TERMINATED, _PHONEME = 0, 7


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),  # of a union; the name of a phone, in UTF-8
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@cache
def _library() -> tuple[Any, int]:
    """The library, initialised once a process, and its sampling rate in Hz."""
    name = find_library("espeak-ng")
    if name is None:
        raise FileNotFoundError("libespeak-ng is not installed: apt-get install espeak-ng")
    library = ctypes.CDLL(name)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _IPA_NAMES)
    if rate <= 0:
        raise RuntimeError(f"espeak-ng did not start: {rate}")
    return library, rate


def speak(
    text: str, voice: str, pitch: int, words_per_minute: int
) -> tuple[np.ndarray, int, list[tuple[str, float]]]:
    """Speak ``text``.

    Args:
        text: any length.
        voice: language and variant, such as ``en-us+f2``.
        pitch: 0 to 99.
        words_per_minute: speaking rate.

    Returns:
        Samples (n,) int16, their rate in Hz, and each phone (IPA; empty for a pause) with the second at which
        it begins.

    Raises:
        ValueError: espeak-ng does not know the voice.
    """
    library, rate = _library()
    chunks: list[np.ndarray] = []
    phones: list[tuple[str, float]] = []

    def collect(samples: Any, n_samples: int, events: Any) -> int:
        if samples and n_samples > 0:
            chunks.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        index = 0
        while events[index].type != _LIST_TERMINATED:
            if events[index].type == _PHONEME:
                name = events[index].string.decode("utf-8", errors="replace")
                phones.append((name, events[index].audio_position / 1000))
            index += 1
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice}")
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    encoded = text.encode() + b"\0"
    library.espeak_Synth(encoded, len(encoded), 0, 0, 0, _UTF8, None, None)
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16), rate, phones
