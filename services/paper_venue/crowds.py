"""Who trades at the venue besides its clients: one leader of each kind, or a large crowd."""

from random import Random

from services.paper_venue.config import VenueConfig
from services.paper_venue.habits import ACTIVITY_EXPONENT, ACTIVITY_MAX, MIX, Kind, kinds_of
from services.paper_venue.leaders import Leader, Trader
from services.paper_venue.makers import Maker


def traders(config: VenueConfig) -> list[Trader]:
    """Return the leaders that the settings ask for; the same settings give the same leaders."""
    kinds = kinds_of(config.leaders)
    if not kinds:
        return []
    if not config.crowd_size:
        return [trader(kind, config.seed) for kind in kinds]
    rng = Random(f"{config.seed}/crowd")
    # Everybody who is asked for has a place, however small the crowd; then the mix decides.
    cast = [*kinds, *rng.choices(kinds, [MIX[kind] for kind in kinds], k=config.crowd_size)]
    return [
        trader(kind, config.seed, number=number, activity=activity(rng))
        for number, kind in enumerate(cast[: config.crowd_size], start=1)
    ]


def trader(kind: Kind, seed: int, *, number: int = 0, activity: float = 0) -> Trader:
    """Return one leader; a number and an activity make it one of a crowd."""
    name = f"synthetic-{kind}-{number}" if number else f"synthetic-{kind}"
    rng = Random(f"{seed}/{name.removeprefix('synthetic-')}")
    if kind == "maker":
        return Maker(rng, name=name)
    return Leader(kind, rng, name=name, activity=activity)


def activity(rng: Random) -> float:
    """Return how many times more often than the least active a wallet of a crowd decides."""
    return min(ACTIVITY_MAX, rng.paretovariate(ACTIVITY_EXPONENT))
