"""Messages a little off: seeded mutations of recorded ones, of their values and of their bytes."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

FIXTURES: Final = Path(__file__).parents[1] / "golden" / "polymarket" / "fixtures"
_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 0.5, 1e300, -0.0, 10**30, 2**63, "", "0", "1", "-1", "0.5", "1.0",
    "1e400", "NaN", "Infinity", "0x", "0x" + "f" * 40, "0x" + "F" * 64, "9" * 80, "BUY", "sell",
    "TRADE", "SPLIT", "999", "1793318400", "1793318400123", 1793318400, "2026-11-01T00:00:00Z",
    "\u0000", "\ud800", "é" * 20, [], {}, [[]], {"a": {}}, [None],
)  # fmt: skip
_BYTES: Final = (b"", b"\x00", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"}", b"[", b",", b"null")


def fixtures() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(FIXTURES.glob("*.json"))}


class Mutator:
    """Makes one message after another; the same seed makes the same ones."""

    def __init__(self, seeds: list[bytes], seed: int) -> None:
        self._rng = random.Random(seed)
        self._seeds = seeds

    def next(self) -> bytes:
        body = self._rng.choice(self._seeds)
        kind = self._rng.randrange(10)
        if kind < 7:
            body = self._values(body)
        if kind > 5:
            body = self._spliced(body)
        return body

    def _values(self, body: bytes) -> bytes:
        told = json.loads(body)
        for _ in range(self._rng.choice((1, 1, 1, 2, 5))):
            told = self._value(told)
        if self._rng.randrange(20) == 0:
            told = [told] * self._rng.choice((0, 1, 2, 40))
        return json.dumps(told).encode(errors="surrogatepass")

    def _value(self, root: Any) -> Any:
        rng, node = self._rng, root
        while isinstance(node, dict | list) and node:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if isinstance(node[key], dict | list) and node[key] and rng.randrange(5):
                node = node[key]
                continue
            self._change(node, key)
            break
        return root

    def _change(self, node: Any, key: Any) -> None:
        rng, value = self._rng, node[key]
        match rng.randrange(6):
            case 0:
                del node[key]
            case 1 if isinstance(value, str) and value:
                place = rng.randrange(len(value))
                node[key] = value[:place] + rng.choice("0123456789abx.-+ eE") + value[place + 1 :]
            case 2 if isinstance(value, str):
                node[key] = value + rng.choice(("0", "1", ".5", " ", "e3", "x"))
            case 3 if isinstance(value, int | float):
                node[key] = value * rng.choice((-1, 0, 10, 1_000, 1e-7, 1e12))
            case 4 if isinstance(node, dict):
                node[rng.choice(list(node))] = deepcopy(value)
            case _:
                node[key] = deepcopy(rng.choice(_ODD))

    def _spliced(self, body: bytes) -> bytes:
        rng = self._rng
        start = rng.randrange(len(body) + 1)
        cut = rng.choice((0, 1, 1, 4, 40, len(body)))
        return body[:start] + rng.choice(_BYTES) + body[start + cut :]
