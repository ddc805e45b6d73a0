"""Traces: a fact's place in its trace is derived from the fact and from nothing else."""

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared.domain.ids import content_id
from shared.domain.messages import HaltTrading, Message, RegimeChanged
from shared.runtime.config import AccountConfig, Config, TelemetryConfig, VenueConfig
from shared.runtime.telemetry import Tracing, parse_traceparent, setup_tracing, traceparent

ROOT = content_id("halt", 1)
HALT = HaltTrading(id=ROOT, cause="", root=ROOT, ts_ns=1, reason="operator", actor="me")
REGIME = RegimeChanged(
    id=content_id("regime", 1), cause=ROOT, root=ROOT, ts_ns=2,
    before="normal", regime="halted", reason="operator", actor="me",
)  # fmt: skip


def spans_of(*facts: Message, ratio: float = 1.0, links: Sequence[str] = ()) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = Tracing("risk", exporter=exporter, sample_ratio=ratio)
    for fact in facts:
        tracing.record(fact, start_ns=1_000, end_ns=5_000, links=links)
    tracing.shutdown()
    return list(exporter.get_finished_spans())


def test_ids_are_the_facts_own() -> None:
    first, second = spans_of(HALT, REGIME)
    assert (first.name, second.name) == ("halt_trading", "regime_changed")
    assert f"{first.context.trace_id:032x}" == f"{second.context.trace_id:032x}" == ROOT
    assert f"{first.context.span_id:016x}" == ROOT[:16]
    assert f"{second.context.span_id:016x}" == REGIME.id[:16]
    assert first.parent is None
    assert f"{second.parent.span_id:016x}" == ROOT[:16]
    assert (first.start_time, first.end_time) == (1_000, 5_000)
    assert second.attributes["driftless.regime"] == "halted"
    assert second.resource.attributes["service.name"] == "risk"


def test_links_point_at_observations_in_their_own_traces() -> None:
    other = content_id("fill", 7)
    (span,) = spans_of(REGIME, links=[other, "not an id"])
    (link,) = span.links
    assert f"{link.context.trace_id:032x}" == other
    assert f"{link.context.span_id:016x}" == other[:16]


@pytest.mark.parametrize(("status", "error"), [(200, False), (503, True), (None, True)])
def test_a_request_is_a_child_of_its_fact(status: int | None, error: bool) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing("executor", exporter=exporter)
    tracing.http(REGIME, "POST /order", start_ns=1, end_ns=9, status=status)
    tracing.http(REGIME, "POST /order", start_ns=1, end_ns=9, status=status)
    tracing.shutdown()
    span, again = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == ROOT
    assert f"{span.parent.span_id:016x}" == REGIME.id[:16]
    assert span.context.span_id != again.context.span_id
    assert (span.status.status_code is StatusCode.ERROR) is error


def test_the_header_says_what_the_span_says() -> None:
    (span,) = spans_of(REGIME)
    context = parse_traceparent(traceparent(REGIME))
    assert context.trace_id == f"{span.context.trace_id:032x}"
    assert context.span_id == f"{span.context.span_id:016x}"
    assert context.sampled
    assert int(span.context.trace_flags) == 1
    assert not parse_traceparent(traceparent(REGIME, sampled=False)).sampled


@pytest.mark.parametrize(
    "header",
    ["", "00", "01-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
     "00-" + "a" * 32 + "-" + "0" * 16 + "-01", "00-" + "A" * 32 + "-" + "b" * 16 + "-01"],
)  # fmt: skip
def test_a_malformed_header_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="not a traceparent"):
        parse_traceparent(header)


def test_a_chain_is_sampled_whole_or_not_at_all() -> None:
    chains = []
    for n in range(200):
        root = content_id("halt", n)
        head = HaltTrading(id=root, cause="", root=root, ts_ns=1, reason="", actor="")
        chains.append(
            (
                head,
                HaltTrading(
                    id=content_id("x", n), cause=root, root=root, ts_ns=1, reason="", actor=""
                ),
            )
        )
    spans = spans_of(*(fact for chain in chains for fact in chain), ratio=0.5)
    per_trace = [span.context.trace_id for span in spans]
    assert 40 < len(set(per_trace)) < 160
    assert all(per_trace.count(trace) == 2 for trace in set(per_trace))


def test_a_fact_with_a_foreign_id_is_passed_over() -> None:
    odd = HaltTrading(id="halt-1", cause="", root="halt-1", ts_ns=1, reason="", actor="")
    assert spans_of(odd) == []


def test_without_an_endpoint_nothing_runs_and_nothing_is_recorded() -> None:
    before = threading.active_count()
    tracing = setup_tracing("risk", config_with(""), {})
    assert not tracing.enabled
    tracing.record(HALT, start_ns=1, end_ns=2)
    tracing.http(HALT, "GET /", start_ns=1, end_ns=2, status=200)
    tracing.shutdown()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("endpoint", "environ"),
    [("http://127.0.0.1:9", {}), ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})],
)
def test_a_collector_that_is_away_costs_a_bounded_time_and_one_line(
    endpoint: str, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    tracing = setup_tracing("risk", config_with(endpoint), environ)
    assert tracing.enabled
    tracing.record(HALT, start_ns=1, end_ns=2)
    tracing.shutdown()
    own = [line for line in caplog.records if line.name == "shared.runtime.telemetry"]
    assert [line.message for line in own] in ([], ["trace_export_failed"])


def test_an_outage_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    results = [False, False, True, True]

    class Flaky(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            good = results.pop(0)
            return SpanExportResult.SUCCESS if good else SpanExportResult.FAILURE

    caplog.set_level("INFO", logger="shared.runtime.telemetry")
    tracing = Tracing("risk", exporter=Flaky())
    for _ in range(4):
        tracing.record(HALT, start_ns=1, end_ns=2)
        assert tracing.flush()
    tracing.shutdown()
    assert [line.message for line in caplog.records] == [
        "trace_export_failed", "trace_export_resumed",
    ]  # fmt: skip
    assert caplog.records[1].fields == {"spans_lost": 2}


def config_with(endpoint: str) -> Config:
    return Config(
        mode="demo",
        account=AccountConfig(wallet="0x" + "ab" * 20),
        venue=VenueConfig(local_url="http://127.0.0.1:8700"),
        telemetry=TelemetryConfig(otlp_endpoint=endpoint),
    )
