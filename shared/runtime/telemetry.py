"""Traces whose context is the facts themselves: nothing is carried, everything is derived.

The trace id is a fact's root, its span id the first 16 hex digits of its id, its parent the first
16 of its cause. Whoever holds a fact can therefore name its place in the trace, across processes
and restarts. Without an endpoint no thread runs and nothing is recorded.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from threading import Thread
from typing import Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared.domain.messages import Message
from shared.domain.units import format_micro
from shared.runtime.config import Config
from shared.runtime.logs import log

QUEUE_MAX: Final = 20_000  # spans; what comes above is dropped, never waited for
BATCH_MAX: Final = 2_048
FLUSH_MS: Final = 500
EXPORT_DEADLINE_S: Final = 2.0
SHUTDOWN_DEADLINE_S: Final = 3.0

_TEXT: Final = (
    "leader", "condition", "token", "side", "order", "approval", "trade", "reason", "settlement",
    "status", "closed_by", "feed", "state", "regime", "probable_cause", "actor", "source", "action",
)  # fmt: skip
_MICRO: Final = (
    "price", "size", "yes_price", "leader_price", "notional", "before", "after", "target", "held",
    "shares", "cost", "filled", "worst_usd", "fee", "believed", "observed", "usd",
)  # fmt: skip
_WHOLE: Final = ("outcome", "latency_ns", "duration_ms", "seen_ns", "venue_ns")
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_forced: ContextVar[tuple[int, int] | None] = ContextVar("forced_span_ids", default=None)


_logger = logging.getLogger(__name__)


class TraceContext(NamedTuple):
    trace_id: str  # 32 hex digits: the chain's root
    span_id: str  # 16 hex digits: the beginning of the fact's id
    sampled: bool


class Tracing:
    """Emits spans for facts and for the requests they caused; a no-op without an exporter."""

    def __init__(
        self, service: str, *, exporter: SpanExporter | None = None, sample_ratio: float = 1.0
    ) -> None:
        self._provider: TracerProvider | None = None
        if exporter is not None:
            self._provider = _provider(service, exporter, TraceIdRatioBased(sample_ratio))
            self._tracer = self._provider.get_tracer("driftless")

    @property
    def enabled(self) -> bool:
        return self._provider is not None

    def record(
        self, fact: Message, *, start_ns: int, end_ns: int, links: Sequence[str] = ()
    ) -> None:
        """Emit a fact's span; ``links`` are ids of observations, each the root of its own trace."""
        ids = _ids(fact) if self._provider else None
        if ids is None:
            return
        trace_id, span_id, parent_id = ids
        parent = _context(trace_id, parent_id) if parent_id else Context()
        token = _forced.set((trace_id, span_id))
        try:
            span = self._tracer.start_span(
                str(fact.__struct_config__.tag),
                context=parent,
                attributes=_attributes(fact),
                links=[Link(context) for each in links if (context := _observation(each))],
                start_time=start_ns,
            )
        finally:
            _forced.reset(token)
        span.end(end_time=max(start_ns, end_ns))

    def http(
        self, fact: Message, name: str, *, start_ns: int, end_ns: int, status: int | None
    ) -> None:
        """Emit the span of a request made because of a fact; ``status`` None: no answer came."""
        ids = _ids(fact) if self._provider else None
        if ids is None:
            return
        trace_id, span_id, _ = ids
        span = self._tracer.start_span(
            name,
            context=_context(trace_id, span_id),
            kind=SpanKind.CLIENT,
            attributes={} if status is None else {"http.response.status_code": status},
            start_time=start_ns,
        )
        if status is None or status >= 400:
            span.set_status(Status(StatusCode.ERROR, "no answer" if status is None else None))
        span.end(end_time=max(start_ns, end_ns))

    def flush(self) -> bool:
        """Send what is queued now; blocks, so for tests and the end of a command only."""
        return self._provider is None or self._provider.force_flush()

    def shutdown(self) -> None:
        """Send what is queued and stop; waits a bounded time for a collector that is away."""
        if self._provider is None:
            return
        flush = Thread(target=self._provider.shutdown, name="trace-flush", daemon=True)
        flush.start()
        flush.join(SHUTDOWN_DEADLINE_S)


def setup_tracing(service: str, config: Config, environ: Mapping[str, str]) -> Tracing:
    """Return the tracing of a service: to ``<endpoint>/v1/traces``, or nowhere without one."""
    settings = config.telemetry
    endpoint = settings.otlp_endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not endpoint:
        return Tracing(service)
    # Imported here: it costs a fifth of a second that a service without a collector need not pay.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_DEADLINE_S)
    return Tracing(service, exporter=exporter, sample_ratio=settings.sample_ratio)


def traceparent(fact: Message, *, sampled: bool = True) -> str:
    """Return the W3C header that makes a receiver's spans children of the fact's."""
    return f"00-{fact.root}-{fact.id[:16]}-{sampled:02x}"


def parse_traceparent(header: str) -> TraceContext:
    """Return what a W3C header says, or raise ValueError."""
    match = _TRACEPARENT.fullmatch(header)
    if not match or not int(match[1], 16) or not int(match[2], 16):
        raise ValueError(f"not a traceparent header: {header[:80]!r}")
    return TraceContext(match[1], match[2], bool(int(match[3], 16) & 1))


class _Exporter(SpanExporter):
    """Says once that the collector is away and once that it is back, not for every batch."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log(_logger, logging.WARNING, "trace_export_failed", spans=len(spans))
            self._lost += len(spans)
        elif self._lost:
            log(_logger, logging.INFO, "trace_export_resumed", spans_lost=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _FactIds(RandomIdGenerator):
    """Random ids, except where the span is a fact's: then they are the fact's own."""

    def generate_trace_id(self) -> int:
        forced = _forced.get()
        return forced[0] if forced else super().generate_trace_id()

    def generate_span_id(self) -> int:
        forced = _forced.get()
        return forced[1] if forced else super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False  # a fact's flags are then just "sampled", as ``traceparent`` writes them


def _provider(service: str, exporter: SpanExporter, sampler: Sampler) -> TracerProvider:
    resource = Resource({"service.name": service, "service.namespace": "driftless"})
    provider = TracerProvider(
        sampler=sampler, resource=resource, id_generator=_FactIds(), shutdown_on_exit=False
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            _Exporter(exporter),
            max_queue_size=QUEUE_MAX,
            schedule_delay_millis=FLUSH_MS,
            max_export_batch_size=BATCH_MAX,
        )
    )
    return provider


def _ids(fact: Message) -> tuple[int, int, int] | None:
    """Return trace, span and parent id; None for a fact whose ids are not content ids."""
    try:
        trace_id, span_id = int(fact.root, 16), int(fact.id[:16], 16)
        parent_id = int(fact.cause[:16], 16) if fact.cause else 0
    except ValueError:
        return None
    known = 0 < trace_id < 1 << 128 and 0 < span_id < 1 << 64 and parent_id < 1 << 64
    return (trace_id, span_id, parent_id) if known else None


def _span_context(trace_id: int, span_id: int) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def _context(trace_id: int, span_id: int) -> Context:
    parent = trace.NonRecordingSpan(_span_context(trace_id, span_id))
    return trace.set_span_in_context(parent, Context())


def _observation(fact_id: str) -> SpanContext | None:
    try:
        return _span_context(int(fact_id, 16), int(fact_id[:16], 16))
    except ValueError:
        return None


@cache
def _shown(kind: type[Message]) -> tuple[tuple[str, str], ...]:
    """Return which fields of a kind of fact its spans show, with the attribute's name."""
    wanted = (*_TEXT, *_MICRO, *_WHOLE)
    return tuple((name, f"driftless.{name}") for name in kind.__struct_fields__ if name in wanted)


def _attributes(fact: Message) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"driftless.id": fact.id}
    for name, attribute in _shown(type(fact)):
        value = getattr(fact, name)
        if isinstance(value, str):
            attributes[attribute] = value
        elif isinstance(value, int):
            attributes[attribute] = format_micro(value) if name in _MICRO else value
    return attributes
