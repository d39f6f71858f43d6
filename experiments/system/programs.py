"""Compiled programs, of which a process that computes many things can hold only so many."""

import gc
from pathlib import Path

_MAPPINGS = Path("/proc/self/maps")
_LARGEST = Path("/proc/sys/vm/max_map_count")

_DEFAULT = 65_530

# What is left is for one part of a study, one run or one check, which compile hundreds.
_SHARE = 1 / 3


def make_room_for_programs(share: float = _SHARE) -> bool:
    """Free all compiled programs if they take up much of the mappings that Linux allows.

    Each maps memory of its own, and Linux lets a process have 65,530 mappings unless the system
    says otherwise; the compiler then fails, or ends the process (jaxlib 0.10.2). Other systems have
    no such limit, and nothing is freed there.

    Args:
        share: Of the mappings allowed, how many may be in use.

    Returns:
        True if the programs were freed; those that are used again are compiled again.
    """
    try:
        used = _MAPPINGS.read_bytes().count(b"\n")
    except OSError:
        return False
    try:
        allowed = int(_LARGEST.read_text("ascii"))
    except (OSError, ValueError):
        # A container may hide it.
        allowed = _DEFAULT
    if used <= share * allowed:
        return False
    import jax

    jax.clear_caches()
    gc.collect()
    return True
