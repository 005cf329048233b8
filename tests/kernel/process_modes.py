"""Floating-point modes of this thread, through the C library. Use in a subprocess only."""

import ctypes
import ctypes.util
import platform

_X86 = platform.machine() in ("x86_64", "AMD64")
AVAILABLE = _X86 and platform.system() == "Linux"

FLUSH_RESULTS = 0x8000
FLUSH_OPERANDS = 0x0040
DIRECTIONS = {"nearest": 0, "down": 0x400, "up": 0x800, "zero": 0xC00}
_MXCSR = 28  # offset of the SSE control word in glibc's fenv_t


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


def set_flush(bits: int) -> None:
    """Set exactly these flush bits of the SSE control word."""
    environment = (ctypes.c_uint8 * 64)()
    library = _library()
    library.fegetenv(environment)
    word = int.from_bytes(bytes(environment)[_MXCSR : _MXCSR + 4], "little")
    word = (word & ~(FLUSH_RESULTS | FLUSH_OPERANDS)) | bits
    for i, byte in enumerate(word.to_bytes(4, "little")):
        environment[_MXCSR + i] = byte
    library.fesetenv(environment)


def set_direction(name: str) -> None:
    """Round in this direction from now on."""
    if _library().fesetround(DIRECTIONS[name]) != 0:
        raise OSError(f"cannot round {name}")
