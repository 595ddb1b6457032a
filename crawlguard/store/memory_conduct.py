"""Profiles of one process, in two generations of dicts: what every other store's profiles are held against."""

from __future__ import annotations

from ..signals.conduct import DOCUMENT, NONE_PACED, Conduct, Paces, conduct_of, counted, paced, running
from ..signals.sketch import FEW, LOW, Sketch, estimate

PROFILES = 32_768
"""Profiles in a generation; two are kept, about 300 bytes a profile."""
SKETCHES = 2048
"""Bitmaps in a generation; two are kept, 1 KiB each."""

State = tuple[int, int, Paces, tuple[int, ...]]
"""When the window ends (us), the counts, the paces, and the first few paths: one more than FEW where there is a bitmap of them."""
_FRESH: State = 0, 0, NONE_PACED, ()


class MemoryConduct:
    """Dicts from key to state, to the first few paths, and to the bitmap of whoever asks for more."""

    def __init__(self, profiles: int = PROFILES, sketches: int = SKETCHES) -> None:
        self._profiles, self._sketches = profiles, sketches
        self._new: dict[int, State] = {}
        self._old: dict[int, State] = {}
        self._new_bits: dict[int, Sketch] = {}
        self._old_bits: dict[int, Sketch] = {}

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """Count one request; see RateStore."""
        new = self._new
        until, counts, paces, few = new.get(key) or self._old.get(key) or _FRESH
        if not running(until, now, within):
            until, counts, paces, few = now + within, *_FRESH[1:]
        counts = counted(counts, kind)
        if kind == DOCUMENT:
            paces = paced(paces, now)
        bits = self._bits(key) if len(few) > FEW else None
        distinct = estimate(bits.ones) if bits is not None else len(few)
        if mark and kind == DOCUMENT:
            low = mark & LOW
            if bits is not None:
                distinct = estimate(bits.ones + (not bits.holds(low)))
                if not dry:
                    bits.add(low)
            elif low not in few:
                few = (*few, low)
                distinct = len(few)
                if distinct > FEW and not dry:
                    self._spread(key, few)
        if not dry:
            if key not in new and len(new) >= self._profiles:
                self._old, self._new = new, {}
                new = self._new
            new[key] = until, counts, paces, few
        return conduct_of(counts, paces, distinct, until - now)

    def _bits(self, key: int) -> Sketch:
        """The bitmap of a key that has one; an empty one when strangers have pushed it out."""
        found = self._new_bits.get(key)
        if found is None:
            found = self._old_bits.get(key) or Sketch()
            self._keep(key, found)
        return found

    def _spread(self, key: int, few: tuple[int, ...]) -> None:
        bits = Sketch()
        for low in few:
            bits.add(low)
        self._keep(key, bits)

    def _keep(self, key: int, bits: Sketch) -> None:
        if len(self._new_bits) >= self._sketches:
            self._old_bits, self._new_bits = self._new_bits, {}
        self._new_bits[key] = bits

    def forget(self, key: int | None = None) -> None:
        """Forget a key's window, or everything."""
        if key is not None:
            self._new.pop(key, None)
            self._old.pop(key, None)
            return
        self._new, self._old, self._new_bits, self._old_bits = {}, {}, {}, {}
