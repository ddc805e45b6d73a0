"""Coverage-guided fuzzing without an end: ``make fuzz TARGET="activity stream" RUNS=100000``.

Needs atheris (``pip install atheris``), which is not in the lock: it is not built for every
platform. A message that fails is written to a file and its assertion shown.
"""

import sys

import atheris

with atheris.instrument_imports(include=["shared.polymarket", "shared.domain"]):
    from tests.fuzz import targets  # noqa: F401  # instrumented before anything else imports it
    from tests.fuzz.mutants import Mutator
    from tests.fuzz.test_fuzz import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    if name not in TARGETS:
        sys.exit(f"no target {name!r}: one of {', '.join(TARGETS)}")
    target, seeds, _ = TARGETS[name]

    def once(data: bytes) -> None:
        target(data)

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        """Mutate values as often as bytes, so that many messages still decode."""
        if seed % 2:
            return bytes(atheris.Mutate(data, size_max))
        return Mutator(seeds, seed).next()[:size_max]

    atheris.Setup([sys.argv[0], "-max_len=65536", *sys.argv[1:]], once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
