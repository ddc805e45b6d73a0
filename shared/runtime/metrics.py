"""Measures for dashboards: OpenTelemetry metrics, sent over OTLP where an endpoint is configured.

Without one no thread runs and nothing is counted. Names and units follow OpenTelemetry's semantic
conventions where they have one (HTTP client metrics); the rest begin with ``driftless.``.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.metrics import Histogram
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from shared.runtime.config import Config
from shared.runtime.logs import log

EXPORT_EVERY_S: Final = 10.0
EXPORT_DEADLINE_S: Final = 2.0
_NO_ANSWER: Final = 0
_TOO_EARLY: Final = 425  # the matching engine restarts (protocol.md 1.8)
_TOO_MANY: Final = 429
_logger = logging.getLogger(__name__)


class Instrument(NamedTuple):
    kind: str  # histogram or gauge
    unit: str  # UCUM
    description: str
    bounds: tuple[float, ...] = ()  # of a histogram's buckets


_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MINUTES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0)

CALL: Final = "http.client.request.duration"
BUDGET: Final = "driftless.endpoint.error_budget"
DRIFT_USD: Final = "driftless.drift"
DETECTED: Final = "driftless.drift.detection.duration"
CORRECTED: Final = "driftless.drift.correction.duration"
CONFIRMED: Final = "driftless.fill.confirmation.duration"
INSTRUMENTS: Final[Mapping[str, Instrument]] = {
    CALL: Instrument("histogram", "s", "Calls to the venue, each attempt", _SECONDS),
    BUDGET: Instrument("gauge", "1", "Error budget left of the last hour; below 0: overspent"),
    DRIFT_USD: Instrument("gauge", "{USD}", "Dollars by which belief and venue differ"),
    DETECTED: Instrument("histogram", "s", "From a drift's cause until it was found", _MINUTES),
    CORRECTED: Instrument("histogram", "s", "From a drift's first sign to its end", _MINUTES),
    CONFIRMED: Instrument("histogram", "s", "From a fill's booking to its confirmation", _MINUTES),
}  # fmt: skip


def is_bad(status: int) -> bool:
    """Tell whether an HTTP status is the venue's failure; 0 stands for no answer.

    A refusal with another 4xx is an answer: it says what is wrong with what was asked.
    """
    return status in (_NO_ANSWER, _TOO_EARLY, _TOO_MANY) or status >= 500


class Metrics:
    """What one process measures; a no-op without a reader."""

    def __init__(self, service: str, *, reader: MetricReader | None = None) -> None:
        self._provider: MeterProvider | None = None
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, Gauge] = {}
        if reader is None:
            return
        resource = Resource({"service.name": service, "service.namespace": "driftless"})
        self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self._provider.get_meter("driftless")
        for name, (kind, unit, description, bounds) in INSTRUMENTS.items():
            if kind == "gauge":
                self._gauges[name] = meter.create_gauge(name, unit, description)
            else:
                self._histograms[name] = meter.create_histogram(
                    name, unit, description, explicit_bucket_boundaries_advisory=bounds
                )

    def took(self, name: str, seconds: float, **attributes: str) -> None:
        """Add a duration to a histogram."""
        if self._provider is not None:
            self._histograms[name].record(seconds, attributes)

    def stands_at(self, name: str, value: float, **attributes: str) -> None:
        """Set a gauge."""
        if self._provider is not None:
            self._gauges[name].set(value, attributes)

    def called(self, endpoint: str, seconds: float, status: int) -> None:
        """Count an attempt to call the venue; status 0: no answer."""
        if self._provider is None:
            return
        method, _, path = endpoint.rpartition(" ")
        told = {"http.request.method": method or "GET", "url.template": path}
        if status:
            told["http.response.status_code"] = str(status)
        if is_bad(status) or status >= 400:
            told["error.type"] = str(status) if status else "no_answer"
        self._histograms[CALL].record(seconds, told)

    def shutdown(self) -> None:
        """Send what is there and stop."""
        if self._provider is not None:
            self._provider.shutdown(timeout_millis=EXPORT_DEADLINE_S * 1_000)


class _Exporter(MetricExporter):
    """Says once that the collector is away and once that it is back, not every ten seconds."""

    def __init__(self, inner: MetricExporter) -> None:
        super().__init__()
        self._inner = inner
        self._away = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = self._inner.export(metrics_data, timeout_millis, **kwargs)
        if self._away != (result is not MetricExportResult.SUCCESS):
            self._away = not self._away
            level = logging.WARNING if self._away else logging.INFO
            log(_logger, level, f"metric_export_{'failed' if self._away else 'resumed'}")
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._inner.shutdown(timeout_millis, **kwargs)


def setup_metrics(service: str, config: Config, environ: Mapping[str, str]) -> Metrics:
    """Return the metrics of a service: to ``<endpoint>/v1/metrics``, or nowhere without one."""
    endpoint = config.telemetry.otlp_metrics_endpoint
    whole = environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "")  # by the standard: a full URL
    url = f"{endpoint.rstrip('/')}/v1/metrics" if endpoint else whole
    if not url:
        return Metrics(service)
    # Imported here: it costs a fifth of a second that a service without a collector need not pay.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    reader = PeriodicExportingMetricReader(
        _Exporter(OTLPMetricExporter(url, timeout=EXPORT_DEADLINE_S)),
        export_interval_millis=EXPORT_EVERY_S * 1_000,
        export_timeout_millis=EXPORT_DEADLINE_S * 1_000,
    )
    return Metrics(service, reader=reader)
