"""One TOML file, a table a service, as frozen structs that are checked once, at start.

[[leaders]] and [risk] are in ``trading.py``, the presets of [risk] in ``presets.py``.

Every key carries its unit. Money is written in dollars, dollars a share or shares, as a decimal
number or text, and becomes the domain's integer micro-units here, exactly: ``trade_usd_max = 50``
is the field ``trade_usd_max == Usd(50_000_000)``. A default in this file is in micro-units too.

Secrets are not in the file. ``load`` reads no secret; it takes four addresses from the
environment where they are set: DRIFTLESS_NATS_URL, DRIFTLESS_REDIS_URL, DRIFTLESS_LOCAL_URL and
OTEL_EXPORTER_OTLP_ENDPOINT (the file wins over the last one).
"""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from shared.domain.ids import Wallet
from shared.domain.units import DUST, MICRO, Bps, Usd
from shared.runtime.presets import PRESETS, with_preset
from shared.runtime.secrets import (
    CHAIN_KEY,
    NATS_PASSWORD,
    REDIS_PASSWORD,
    read_private_key,
    read_secret,
)
from shared.runtime.secrets import Secret as Secret
from shared.runtime.secrets import SecretError as SecretError
from shared.runtime.sections import ConfigError as ConfigError
from shared.runtime.sections import FieldError, Range, Section, build
from shared.runtime.trading import BpsOf, DustShares, Ms, PositiveUsd, Seconds, canonical_wallet
from shared.runtime.trading import CategoryConfig as CategoryConfig
from shared.runtime.trading import Count as Count
from shared.runtime.trading import LeaderConfig as LeaderConfig
from shared.runtime.trading import RiskConfig as RiskConfig
from shared.runtime.trading import TierConfig as TierConfig

_KEY_PLACE: Final = "{key}"
_VENUE_HOST: Final = "polymarket.com"
COLLECTOR: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"  # unless the file names one
ADDRESSES: Final = {  # each in place of the file's
    "nats.url": "DRIFTLESS_NATS_URL",
    "redis.url": "DRIFTLESS_REDIS_URL",
    "venue.local_url": "DRIFTLESS_LOCAL_URL",
}

OptionalMs = Annotated[int, Range(0, 86_400_000)]
HashRule = Literal["count", "distrust"]
Deadline = Annotated[int, Range(1, 120)]


class AccountConfig(Section, frozen=True):
    wallet: Wallet  # the funder: where the collateral and the shares are
    signature_type: Annotated[int, Range(0, 3)] = 0  # 0 EOA, 1 proxy, 2 safe, 3 deposit wallet
    key_file: str | None = None
    relayer_key_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        canonical_wallet(self, self.wallet)


class NatsConfig(Section, frozen=True):
    url: str = "nats://127.0.0.1:4222"  # the user name is the service's name
    connect_timeout_s: Deadline = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_url("url", self.url, ("nats", "tls"))


class RedisConfig(Section, frozen=True):
    url: str = "redis://127.0.0.1:6379/0"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_url("url", self.url, ("redis", "rediss", "unix"))


class VenueConfig(Section, frozen=True):
    """Where the venue answers; an address left out is the local venue's or production's."""

    local_url: str | None = None
    clob_url: str = ""
    data_url: str = ""
    gamma_url: str = ""
    market_ws_url: str = ""
    user_ws_url: str = ""
    activity_ws_url: str = ""
    geoblock_url: str = ""
    chain_rpc_url: str = ""
    chain_ws_url: str = ""
    deadline_s: Deadline = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_url is not None:
            _check_url("local_url", self.local_url, ("http",))
        for name, address in _addresses(self.local_url).items():
            if not getattr(self, name):
                msgspec.structs.force_setattr(self, name, address)
            schemes = ("ws", "wss") if name.endswith("_ws_url") else ("http", "https")
            _check_url(name, getattr(self, name), schemes)
        if self.chain_rpc_url:
            _check_url("chain_rpc_url", self.chain_rpc_url, ("http", "https"))
        if self.chain_ws_url:
            _check_url("chain_ws_url", self.chain_ws_url, ("ws", "wss"))
            if not self.chain_rpc_url:
                problem = "needs chain_rpc_url: a stream only says when to read"
                raise FieldError("chain_ws_url", self.chain_ws_url, problem)


class TelemetryConfig(Section, frozen=True):
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    otlp_endpoint: str = ""
    sample_ratio: Annotated[float, Range(0, 1)] = 1.0
    otlp_metrics_endpoint: str = ""
    objective_bps: Annotated[int, Range(5_000, 9_999)] = 9_900
    slow_ms: Ms = 2_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("otlp_endpoint", "otlp_metrics_endpoint"):
            if getattr(self, name):
                _check_url(name, getattr(self, name), ("http", "https"))


class IngesterConfig(Section, frozen=True):
    poll_interval_ms: Annotated[int, Range(100, 3_600_000)] = 5_000
    poll_fast_ms: Annotated[int, Range(100, 3_600_000)] = 1_000
    poll_idle_ms: Annotated[int, Range(100, 3_600_000)] = 60_000
    activity_reads_per_10s: Annotated[int, Range(10, 200)] = 150
    status_every_s: Seconds = 5
    poll_overlap_s: Seconds = 60
    leader_snapshot_s: Seconds = 120
    backfill_s: Annotated[int, Range(0, 31_536_000)] = 0
    activity_silence_s: Seconds = 15
    activity_grace_ms: Ms = 6_000
    index_lag_ms: Ms = 10_000
    activity_renew_s: Annotated[int, Range(0, 86_400)] = 600
    activity_sockets: Annotated[int, Range(1, 2)] = 1
    book_silence_s: Seconds = 30
    book_snapshot_s: Seconds = 5
    book_trust_s: Seconds = 45
    book_audit_s: Seconds = 60
    book_poll_s: Seconds = 2
    book_reopen_s: Seconds = 60
    book_hash_rest: HashRule = "distrust"
    book_hash_stream: HashRule = "count"
    book_resyncs_per_s: Annotated[int, Range(1, 50)] = 20
    book_resyncs_burst: Annotated[int, Range(1, 500)] = 40
    book_refreshes_per_s: Annotated[int, Range(1, 100)] = 50
    book_flush_ms: Ms = 50
    volatility_horizons_s: tuple[Annotated[int, Range(1, 3_600)], ...] = (10, 60, 300)
    market_refresh_s: Seconds = 300
    refresh_deadline_ms: Ms = 1_500
    chain_poll_ms: Annotated[int, Range(100, 3_600_000)] = 2_000
    chain_confirmations: Annotated[int, Range(0, 1_000)] = 2
    chain_blocks_max: Annotated[int, Range(1, 10_000)] = 10_000
    chain_silence_s: Seconds = 30


class AggregatorConfig(Section, frozen=True):
    quiet_ms: Ms = 2_000
    age_max_ms: Ms = 10_000
    flush_usd: PositiveUsd = Usd(500 * MICRO)
    flush_on_reduction: bool = True
    dust_shares: DustShares = DUST
    net_share_bps_min: BpsOf = Bps(0)
    churn_share_bps_max: BpsOf = Bps(3_000)
    churn_quiet_ms: Ms = 30_000
    churn_age_max_ms: Ms = 120_000
    tick_ms: Ms = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_window(self.quiet_ms, self.age_max_ms)
        if self.churn_quiet_ms > self.churn_age_max_ms:
            problem = f"must not exceed churn_age_max_ms = {self.churn_age_max_ms}"
            raise FieldError("churn_quiet_ms", self.churn_quiet_ms, problem)


class ExecutorConfig(Section, frozen=True):
    tick_ms: Ms = 250
    order_ttl_ms: Ms = 5_000
    post_deadline_s: Deadline = 5
    lookup_attempts: Count = 3
    lookup_interval_ms: Ms = 2_000
    resends_max: Annotated[int, Range(0, 10)] = 3
    patience_s: Seconds = 600
    surrendered_kept_s: Seconds = 86_400
    poll_interval_ms: Annotated[int, Range(100, 3_600_000)] = 5_000
    poll_overlap_s: Seconds = 120
    book_age_ms_max: Ms = 2_000
    clock_every_s: Seconds = 60
    standing_every_s: Seconds = 3_600
    probes_waived: tuple[str, ...] = ()
    redeem: bool = False
    redeem_after_s: Annotated[int, Range(1, 604_800)] = 900


class ReconcilerConfig(Section, frozen=True):
    interval_ms: Annotated[int, Range(100, 86_400_000)] = 10_000
    confirmations: Annotated[int, Range(1, 10)] = 2
    grace_ms: OptionalMs = 15_000
    excuse_ms_max: Annotated[int, Range(1_000, 86_400_000)] = 600_000
    dust_shares: DustShares = DUST


class Config(Section, frozen=True):
    mode: Literal["demo", "paper", "live"]
    account: AccountConfig
    nats: NatsConfig = msgspec.field(default_factory=NatsConfig)
    redis: RedisConfig = msgspec.field(default_factory=RedisConfig)
    venue: VenueConfig = msgspec.field(default_factory=VenueConfig)
    telemetry: TelemetryConfig = msgspec.field(default_factory=TelemetryConfig)
    leaders: tuple[LeaderConfig, ...] = ()
    ingester: IngesterConfig = msgspec.field(default_factory=IngesterConfig)
    aggregator: AggregatorConfig = msgspec.field(default_factory=AggregatorConfig)
    risk: RiskConfig = msgspec.field(default_factory=RiskConfig)
    executor: ExecutorConfig = msgspec.field(default_factory=ExecutorConfig)
    reconciler: ReconcilerConfig = msgspec.field(default_factory=ReconcilerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_mode(self.mode, self.venue)
        seen = {self.account.wallet}
        for at, leader in enumerate(self.leaders):
            if leader.wallet in seen:
                problem = "is listed twice, or is our own account: follow a wallet once"
                raise FieldError(f"leaders[{at}].wallet", leader.wallet, problem)
            seen.add(leader.wallet)
            _check_window(
                leader.quiet_ms or self.aggregator.quiet_ms,
                leader.age_max_ms or self.aggregator.age_max_ms,
                f"leaders[{at}].",
            )


def load(path: str | Path, *, environ: Mapping[str, str]) -> Config:
    """Return the checked settings of a file, or raise ConfigError naming the key and the cure."""
    written = read_table(path)
    try:
        return build(Config, with_preset(_with_environ(written, environ)))
    except ConfigError as e:
        problem = f"{e.problem}{_unwritten(e.key, written)}"
        raise ConfigError(e.key, e.value, problem, str(path)) from None


def read_table(path: str | Path) -> dict[str, Any]:
    """Return what a file says, unchecked, its decimals exact; raises ConfigError."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as e:
        problem = f"cannot be read ({e.strerror}): pass --config PATH or set DRIFTLESS_CONFIG"
        raise ConfigError(str(path), None, problem) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(str(path), None, f"is not valid TOML: {e}") from e


def config_hash(config: Config) -> str:
    """Return 32 hex digits that are the same for the same settings; no secret enters them."""
    data = msgspec.json.encode(config, order="deterministic")
    return blake2b(data, digest_size=16).hexdigest()


def load_private_key(config: Config, environ: Mapping[str, str]) -> Secret:
    """Return the signing key; for the executor alone. Raises SecretError, which never shows it."""
    return read_private_key(environ, config.account.key_file)


def nats_password(environ: Mapping[str, str]) -> Secret | None:
    """Return this service's bus password; None means a server without authentication."""
    return read_secret(environ, NATS_PASSWORD)


def redis_password(environ: Mapping[str, str]) -> Secret | None:
    """Return the store's password; None means a server without authentication."""
    return read_secret(environ, REDIS_PASSWORD)


def chain_urls(config: Config, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the node's HTTP and WebSocket addresses with its key in the place of ``{key}``.

    Whoever is given them keeps them to himself. Raises SecretError where a key is missing.
    """
    urls = config.venue.chain_rpc_url, config.venue.chain_ws_url
    if not any(_KEY_PLACE in url for url in urls):
        return urls
    key = read_secret(environ, CHAIN_KEY)
    if key is None:
        raise SecretError(
            CHAIN_KEY, f"venue.chain_rpc_url has {_KEY_PLACE}: set it, or {CHAIN_KEY}_FILE"
        )
    return urls[0].replace(_KEY_PLACE, key.reveal()), urls[1].replace(_KEY_PLACE, key.reveal())


def _unwritten(key: str, written: Mapping[str, Any]) -> str:
    """Say where a limit comes from that the file does not hold, but that does not fit the file."""
    section, _, name = key.partition(".")
    risk = written.get("risk")
    if section != "risk" or not isinstance(risk, dict) or name in risk:
        return ""
    if name not in RiskConfig.__struct_fields__:
        return ""
    preset = str(risk.get("preset", ""))
    origin = f"preset {preset} has that" if name in PRESETS.get(preset, {}) else "the default"
    return f" ({origin}: write {key} too)"


def _with_environ(table: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    for path, name in ADDRESSES.items():
        section, _, key = path.partition(".")
        if environ.get(name) and isinstance(table.setdefault(section, {}), dict):
            table[section][key] = environ[name]
    telemetry = table.setdefault("telemetry", {})
    if environ.get(COLLECTOR) and isinstance(telemetry, dict):
        telemetry["otlp_endpoint"] = telemetry.get("otlp_endpoint") or environ[COLLECTOR]
    return table


def _check_window(quiet_ms: int, age_max_ms: int, path: str = "") -> None:
    if quiet_ms > age_max_ms:
        problem = f"must not exceed age_max_ms = {age_max_ms}"
        raise FieldError(f"{path}quiet_ms", quiet_ms, problem)


def _check_url(field: str, url: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not (parts.netloc or parts.scheme == "unix"):
        raise FieldError(field, url, f"must be an address that begins with {schemes[0]}://")
    if "@" in parts.netloc:
        raise FieldError(field, "(hidden)", "must hold no password: set it in the environment")


def _check_mode(mode: str, venue: VenueConfig) -> None:
    for name in _addresses(None):
        url = getattr(venue, name)
        local = venue.local_url is not None or urlsplit(url).scheme not in ("https", "wss")
        if mode == "live" and local:
            shown = venue.local_url or url
            raise FieldError("venue", shown, "live mode needs the venue's own https and wss")
    host = urlsplit(venue.clob_url).hostname or ""
    if mode != "live" and (host == _VENUE_HOST or host.endswith(f".{_VENUE_HOST}")):
        problem = f"{mode} mode must not send orders there: set venue.local_url"
        raise FieldError("venue.clob_url", venue.clob_url, problem)


def _addresses(local_url: str | None) -> dict[str, str]:
    if local_url is None:
        return {
            "clob_url": "https://clob.polymarket.com",
            "data_url": "https://data-api.polymarket.com",
            "gamma_url": "https://gamma-api.polymarket.com",
            "market_ws_url": "wss://ws-subscriptions-clob.polymarket.com/ws/market",
            "user_ws_url": "wss://ws-subscriptions-clob.polymarket.com/ws/user",
            "activity_ws_url": "wss://ws-live-data.polymarket.com",
            "geoblock_url": "https://polymarket.com/api/geoblock",
        }
    base = local_url.rstrip("/")
    stream = "ws" + base.removeprefix("http")
    return {
        "clob_url": base,
        "data_url": base,
        "gamma_url": base,
        "market_ws_url": f"{stream}/ws/market",
        "user_ws_url": f"{stream}/ws/user",
        "activity_ws_url": f"{stream}/rtds",
        "geoblock_url": f"{base}/api/geoblock",
    }
