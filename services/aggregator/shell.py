"""The aggregator's view of leaders' exposures; it has no other effects."""

from collections.abc import Mapping

from services.aggregator.core import State
from shared.domain.views import ExposuresView, ExposureView, encode, exposure_key
from shared.runtime.ports import Lane
from shared.runtime.runner import QuietShell


class Shell(QuietShell[State]):
    def __init__(self, lane: Lane) -> None:
        self._key = exposure_key(lane.partition)

    def views(self, state: State) -> Mapping[str, bytes]:
        lines = tuple(
            ExposureView(
                leader=track.leader,
                condition=track.condition,
                yes=track.yes,
                no=track.no,
                exposure=track.exposure,
            )
            for track in state.tracks.values()
        )
        return {self._key: encode(ExposuresView(exposures=lines))}
