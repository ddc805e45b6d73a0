"""The servers as deployed: who may say what on the bus, what survives, and that nothing is left."""

import asyncio
import json
import stat
import subprocess
from pathlib import Path

import nats
import pytest

from services.ctl import servers as servers_module
from services.ctl.servers import (
    DEPLOY,
    USERS,
    LocalServers,
    ServersError,
    alive,
    nats_server_binary,
    read_endpoints,
    reap,
    socket_path,
)
from shared.domain.ids import content_id
from shared.domain.messages import Batch, RegimeChanged
from shared.runtime.bus import NatsLedger, connect, provision
from shared.runtime.lease import NatsLeases
from shared.runtime.ports import Lane
from tests.support.eventually import eventually, eventually_sync
from tests.support.servers import nats_client, redis_client, wipe

SERVICES = tuple(user for user in USERS if user != "ctl")


@pytest.fixture
async def bus(servers: LocalServers) -> LocalServers:
    """Return the session's servers with empty streams."""
    await wipe(servers, provision)
    return servers


async def refused(servers: LocalServers, user: str, subject: str, *, listen: bool = False) -> bool:
    """Tell whether the server refuses a user to publish to, or listen on, a subject."""
    said: list[str] = []

    async def hear(e: Exception) -> None:
        said.append(str(e))

    async with nats_client(servers, user, error_cb=hear) as client:
        if listen:
            await client.subscribe(subject, cb=_ignore)
        else:
            await client.publish(subject, b"{}")
        await client.flush()  # the client may send this before what it has buffered,
        await client.flush()  # but not this one: a refusal came before its answer
    assert all("permissions violation" in text.lower() for text in said)
    return bool(said)


async def _ignore(_: object) -> None: ...


@pytest.mark.parametrize("user", USERS)
async def test_everybody_speaks_under_his_own_name_only(bus: LocalServers, user: str) -> None:
    for author in USERS:
        mine = author == user
        for subject in (f"driftless.{author}.fact.00.key", f"deadletter.{author}.00"):
            assert await refused(bus, user, subject) is not mine, subject
        lease = f"$KV.leases.{author}.00"
        assert await refused(bus, user, lease) is (user == "ctl" or not mine), lease


@pytest.mark.parametrize("user", SERVICES)
@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.STREAM.UPDATE.LEDGER",
        "$JS.API.STREAM.DELETE.LEDGER",
        "$JS.API.STREAM.PURGE.LEDGER",
        "$JS.API.STREAM.MSG.DELETE.LEDGER",
        "$JS.API.CONSUMER.CREATE.OTHER.name",
        "$JS.API.CONSUMER.DURABLE.CREATE.LEDGER.name",
        "$SYS.REQ.SERVER.PING",
        "driftless.ctl.halt_trading.00.operator",
    ],
)
async def test_a_service_cannot_touch_what_is_not_its_own(
    bus: LocalServers, user: str, subject: str
) -> None:
    assert await refused(bus, user, subject)


@pytest.mark.parametrize("user", SERVICES)
async def test_a_service_hears_market_data_and_its_own_answers_only(
    bus: LocalServers, user: str
) -> None:
    assert not await refused(bus, user, "md.>", listen=True)
    assert not await refused(bus, user, f"_INBOX_{user}.x", listen=True)
    others = [f"_INBOX_{other}.>" for other in USERS if other != user]
    for subject in (*others, "*.>", ">", "driftless.>", "$KV.>", "$JS.>", "$SYS.>"):
        assert await refused(bus, user, subject, listen=True), subject
    assert await refused(bus, user, "rpc.>", listen=True) is (user != "ingester")
    assert await refused(bus, user, "md.book.1") is (user != "ingester")
    asks = user in ("risk", "executor")
    assert await refused(bus, user, "rpc.book.refresh") is not asks


@pytest.mark.parametrize("asker", ["risk", "executor", "ctl"])
async def test_the_ingester_answers_those_who_may_ask(bus: LocalServers, asker: str) -> None:
    async with nats_client(bus, "ingester") as ingester, nats_client(bus, asker) as client:

        async def answer(message: nats.aio.msg.Msg) -> None:
            await message.respond(b"fresh")

        await ingester.subscribe("rpc.book.refresh", cb=answer)
        await ingester.flush()
        reply = await client.request("rpc.book.refresh", b"token", timeout=5)
        assert reply.data == b"fresh"


@pytest.mark.parametrize("service", SERVICES)
async def test_what_is_allowed_is_enough_to_work(bus: LocalServers, service: str) -> None:
    lane, errors = Lane(service, 0), []
    fact = RegimeChanged(
        id=content_id("r", service), cause="", root=content_id("r", service), ts_ns=1,
        before="normal", regime="halted", reason="test", actor="test",
    )  # fmt: skip
    client = await connect(
        bus.endpoints.nats_url,
        service=service,
        password=bus.endpoints.password(service).reveal(),
        on_error=errors.append,
    )
    lease = await NatsLeases(client, service=service, instance="one").take(lane)
    assert lease is not None
    ledger = NatsLedger(client)
    batch = Batch(epoch=int(lease.epoch), through=0, facts=(fact,))
    seq = await ledger.append(lane, batch, key="key", after=0)
    async with asyncio.timeout(20):  # a reader that is refused waits for ever
        read = [e async for run in ledger.read((lane.subjects,), after=0, until=seq) for e in run]
    assert [entry.batch for entry in read] == [batch]
    assert (await ledger.last(lane)).seq == await ledger.head() == seq
    await ledger.dead_letter(lane, reason="test", data=b"x", source="y")
    await lease.release()
    await client.close()
    assert errors == []


async def test_a_forged_fact_never_reaches_the_ledger(bus: LocalServers) -> None:
    assert await refused(bus, "aggregator", "driftless.executor.order_filled.00.k")
    async with nats_client(bus, "risk") as client:
        assert await NatsLedger(client).head() == 0


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_without_the_password_nobody_comes_in(bus: LocalServers, password: str) -> None:
    port = int(bus.endpoints.nats_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    login = json.dumps({"user": "risk", "pass": password, "verbose": False})
    writer.write(f"CONNECT {login}\r\nPING\r\n".encode())
    said = await asyncio.wait_for(reader.read(-1), 10)  # to the end: the server hangs up
    assert b"Authorization Violation" in said
    assert b"PONG" not in said
    writer.close()
    await writer.wait_closed()


async def test_the_store_wants_its_password_and_never_evicts(bus: LocalServers) -> None:
    async with redis_client(bus) as store:
        settings = await store.config_get("maxmemory-policy", "append*", "save", "dir")
        assert settings["maxmemory-policy"] == "noeviction"
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
        assert settings["save"] == ""
    arguments = Path(f"/proc/{bus.pids()['redis']}/cmdline").read_text()
    assert bus.endpoints.password("redis").reveal() not in arguments


def test_the_bus_configuration_is_valid() -> None:
    environ = {f"{user.upper()}_PASSWORD": "p0" for user in USERS}
    command = [str(nats_server_binary()), "-t", "-c", str(DEPLOY / "nats.conf")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    del environ["RISK_PASSWORD"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode != 0, "a user without a password must not start"


async def test_a_killed_server_comes_back_with_what_it_acknowledged(tmp_path: Path) -> None:
    with LocalServers(tmp_path) as servers:
        async with nats_client(servers) as client:
            await provision(client)
            await client.jetstream().publish("driftless.ctl.fact.00.k", b"kept")
        async with redis_client(servers) as store:
            await store.set("k", "kept")
            await store.execute_command("WAITAOF", 1, 0, 5000)
        before = servers.endpoints
        servers.stop_nats(kill=True)
        servers.stop_redis(kill=True)
        servers.start_nats()
        servers.start_redis()
        assert servers.endpoints == before
        async with nats_client(servers) as client:
            kept = await client.jetstream().get_msg("LEDGER", 1)
            assert kept.data == b"kept"
        async with redis_client(servers) as store:
            assert await store.get("k") == b"kept"


def test_everything_private_is_private(servers: LocalServers) -> None:
    folder = Path(servers.endpoints.passwords)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert {file.name for file in files} == {*USERS, "redis", "redis.conf"}
    for file in (*files, folder.parent / "endpoints.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert len({file.read_text() for file in files}) == len(files)
    environ = servers.endpoints.environ("risk")
    assert not any(file.read_text() in text for file in files for text in environ.values())


def test_another_terminal_finds_the_servers_while_they_run(tmp_path: Path) -> None:
    with pytest.raises(ServersError, match="driftless up"):
        read_endpoints(tmp_path)
    with LocalServers(tmp_path) as servers:
        assert read_endpoints(tmp_path) == servers.endpoints
        with pytest.raises(ServersError, match="is in use"):
            LocalServers(tmp_path).start()
        with pytest.raises(ServersError, match="is in use"):
            reap(tmp_path)
        assert read_endpoints(tmp_path) == servers.endpoints
    with pytest.raises(ServersError, match="driftless up"):
        read_endpoints(tmp_path)


def test_nothing_is_left_behind_and_passwords_stay(tmp_path: Path) -> None:
    with LocalServers(tmp_path) as servers:
        pids, first = servers.pids(), servers.endpoints.password("risk").reveal()
        assert set(pids) == {"nats", "redis"}
    assert not any(alive(pid) for pid in pids.values())
    with LocalServers(tmp_path) as servers:
        assert servers.endpoints.password("risk").reveal() == first


def test_servers_whose_parent_was_killed_are_ended_by_the_next_start(tmp_path: Path) -> None:
    servers = LocalServers(tmp_path).start()
    orphans = servers.pids().values()
    servers._lock.close()  # what the kernel does when the parent dies
    with LocalServers(tmp_path):
        eventually_sync(lambda: not any(alive(pid) for pid in orphans))
    servers._nats.wait()
    servers._redis.wait()
    reap(tmp_path)


def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "deploy"
    broken.mkdir()
    (broken / "nats.conf").write_text("jetstream { nonsense")
    monkeypatch.setattr(servers_module, "DEPLOY", broken)
    with pytest.raises(ServersError, match=r"nats-server ended with 1:\n.*Parse error"):
        LocalServers(tmp_path / "run").start()


def test_an_old_or_absent_broker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.11.9\n")
    old.chmod(0o700)
    monkeypatch.setenv("NATS_SERVER_BIN", str(old))
    with pytest.raises(ServersError, match=r"v2\.11\.9: 2\.12 or newer"):
        nats_server_binary()
    monkeypatch.setenv("NATS_SERVER_BIN", str(tmp_path / "absent"))
    with pytest.raises(ServersError, match="no nats-server"):
        nats_server_binary()


def test_a_socket_deep_in_the_tree_moves_to_a_short_path(tmp_path: Path) -> None:
    assert socket_path(Path("/run/x"), "s.sock") == Path("/run/x/s.sock")
    deep = socket_path(tmp_path / ("d" * 100), "s.sock")
    assert len(str(deep)) < 90
    assert stat.S_IMODE(deep.parent.stat().st_mode) == 0o700
    deep.parent.rmdir()


async def test_waiting_has_a_deadline() -> None:
    with pytest.raises(AssertionError, match="not within"):
        await eventually(lambda: False, deadline_s=0.05)
