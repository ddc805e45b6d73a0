"""Measures reach a collector over OTLP, under the names and units that the docs list."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from shared.domain.units import NS_PER_S, Bps
from shared.runtime.clock import ManualClock
from shared.runtime.config import AccountConfig, Config, TelemetryConfig, VenueConfig
from shared.runtime.endpoints import Endpoints
from shared.runtime.metrics import (
    BUDGET,
    CALL,
    DETECTED,
    DRIFT_USD,
    INSTRUMENTS,
    Metrics,
    setup_metrics,
)

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_calls_are_counted_by_endpoint_and_status_as_the_conventions_name_them() -> None:
    reader = InMemoryMetricReader()
    metrics = Metrics("executor", reader=reader)
    endpoints = Endpoints(
        "executor", ManualClock(), objective_bps=Bps(9_900), slow_ns=NS_PER_S, metrics=metrics
    )
    for name, status in (("POST /order", 200), ("POST /order", 0), ("/book", 404), ("/book", 200)):
        endpoints.called(name, 0.03, status)
    told = {
        tuple(sorted(point.attributes.items())): (point.count, round(point.sum, 3))
        for point in points(reader)[CALL]
    }
    post = (("http.request.method", "POST"), ("url.template", "/order"))
    get = (("http.request.method", "GET"), ("url.template", "/book"))
    assert told == {
        (post[0], ("http.response.status_code", "200"), post[1]): (1, 0.03),
        (("error.type", "no_answer"), *post): (1, 0.03),
        (("error.type", "404"), get[0], ("http.response.status_code", "404"), get[1]): (1, 0.03),
        (get[0], ("http.response.status_code", "200"), get[1]): (1, 0.03),
    }


def test_levels_and_durations_carry_their_values() -> None:
    reader = InMemoryMetricReader()
    metrics = Metrics("reconciler", reader=reader)
    metrics.stands_at(DRIFT_USD, 12.5)
    metrics.stands_at(DRIFT_USD, 3.25)
    metrics.stands_at(BUDGET, -0.5, endpoint="/book")
    metrics.took(DETECTED, 4.0)
    found = points(reader)
    assert [point.value for point in found[DRIFT_USD]] == [3.25]
    assert [(dict(p.attributes), p.value) for p in found[BUDGET]] == [({"endpoint": "/book"}, -0.5)]
    assert [(point.count, point.sum) for point in found[DETECTED]] == [(1, 4.0)]


def test_every_measure_is_documented_with_its_unit() -> None:
    page = DOCS.read_text()
    for name, (_, unit, *_) in INSTRUMENTS.items():
        assert f"| `{name}` | {unit} |" in page


# --- the way out --------------------------------------------------------------------------


class Collector(HTTPServer):
    """Keeps the paths and bodies that are posted to it."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Take)


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def config_with(endpoint: str) -> Config:
    return Config(
        mode="demo",
        account=AccountConfig(wallet="0x" + "ab" * 20),
        venue=VenueConfig(local_url="http://127.0.0.1:8700"),
        telemetry=TelemetryConfig(otlp_metrics_endpoint=endpoint),
    )


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_a_collector_receives_them_at_the_standard_path(collector: Collector, by: str) -> None:
    url = f"http://127.0.0.1:{collector.server_port}"
    environ = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{url}/v1/metrics"}
    metrics = setup_metrics(
        "reconciler",
        config_with(url if by == "setting" else ""),
        {} if by == "setting" else environ,
    )
    metrics.stands_at(DRIFT_USD, 1.5)
    metrics.shutdown()
    ((path, body),) = collector.posted
    request = ExportMetricsServiceRequest.FromString(body)
    (resource,) = request.resource_metrics
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    (metric,) = resource.scope_metrics[0].metrics
    assert path == "/v1/metrics"
    assert named["service.name"] == "reconciler"
    assert (metric.name, metric.gauge.data_points[0].as_double) == (DRIFT_USD, 1.5)


def test_without_a_collector_nothing_runs() -> None:
    before = threading.active_count()
    metrics = setup_metrics("risk", config_with(""), {})
    metrics.took(DETECTED, 1.0)
    metrics.stands_at(DRIFT_USD, 1.0)
    metrics.called("/book", 0.1, 200)
    metrics.shutdown()
    assert threading.active_count() == before


def test_a_collector_that_is_away_costs_a_line_and_a_bounded_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = setup_metrics("risk", config_with("http://127.0.0.1:9"), {})
    metrics.stands_at(DRIFT_USD, 1.0)
    metrics.shutdown()
    own = [line.message for line in caplog.records if line.name == "shared.runtime.metrics"]
    assert own in ([], ["metric_export_failed"])
