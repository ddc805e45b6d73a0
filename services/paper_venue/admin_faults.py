"""The control API's faults: rules, scenarios, what fired, and which sockets there are."""

from typing import Any

import msgspec
from aiohttp import web

from services.paper_venue.faults import FaultsBody, faults_left, set_faults
from services.paper_venue.http import answer, decode, shell_of
from services.paper_venue.kinds import KINDS, kinds_told
from services.paper_venue.rules import Armed, Rule, RuleError, read_rule
from services.paper_venue.scenario import ends_s, read_scenario
from services.paper_venue.shell import Shell
from services.paper_venue.state import Refused
from services.paper_venue.wire import Json

routes = web.RouteTableDef()


@routes.post("/admin/faults")
async def post_faults(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), FaultsBody, "invalid faults")
    try:
        set_faults(shell.rules, body, shell.now_ns())
    except RuleError as error:
        raise Refused(f"invalid faults: {error}") from error
    shell.catch_up()
    return answer({"ok": True, "faults": faults_left(shell.rules)})


@routes.get("/admin/faults/kinds")
async def get_kinds(request: web.Request) -> web.Response:
    return answer({"kinds": kinds_told()})


@routes.post("/admin/rules")
async def post_rules(request: web.Request) -> web.Response:
    told = decode(await request.read(), list[dict[str, Any]], "invalid rules: a list of rules")
    rules = []
    for number, each in enumerate(told, 1):
        try:
            rules.append(read_rule(each))
        except RuleError as error:
            raise Refused(f"invalid rules: rule {number}: {error}") from error
    return answer({"ids": _add(shell_of(request), rules)})


@routes.get("/admin/rules")
async def get_rules(request: web.Request) -> web.Response:
    """Return the rules with how often each fired; those that are over are listed for a while."""
    shell = shell_of(request)
    now_ns = shell.now_ns()
    shell.rules.advance(now_ns)
    return answer({"rules": [_shown(armed, now_ns) for armed in shell.rules.listed()]})


@routes.delete("/admin/rules")
async def delete_rules(request: web.Request) -> web.Response:
    return answer({"removed": shell_of(request).rules.remove()})


@routes.delete(r"/admin/rules/{rule:\d+}")
async def delete_rule(request: web.Request) -> web.Response:
    removed = shell_of(request).rules.remove(int(request.match_info["rule"]))
    if not removed:
        raise Refused("no such rule: see GET /admin/rules", 404)
    return answer({"removed": removed})


@routes.post("/admin/scenario")
async def post_scenario(request: web.Request) -> web.Response:
    """Put a scenario's steps in force, counted from now; they are rules like any other."""
    told = decode(await request.read(), dict[str, Any], "invalid scenario")
    try:
        rules = read_scenario(told)
    except RuleError as error:
        raise Refused(f"invalid scenario: {error}") from error
    ids = _add(shell_of(request), list(rules))
    return answer({"ids": ids, "steps": [_told(rule) for rule in rules], "ends_s": ends_s(rules)})


@routes.get("/admin/sockets")
async def get_sockets(request: web.Request) -> web.Response:
    return answer({"sockets": shell_of(request).hub.delivery.views()})


@routes.get("/admin/firings")
async def get_firings(request: web.Request) -> web.Response:
    """Return what fired, oldest first; ``after`` skips so many since the start."""
    rules = shell_of(request).rules
    try:
        after = int(request.query.get("after", 0))
    except ValueError:
        raise Refused("`after` is a whole number") from None
    forgotten = rules.fired - len(rules.firings)
    return answer(
        {"count": rules.fired, "firings": list(rules.firings)[max(0, after - forgotten) :]}
    )


def _add(shell: Shell, rules: list[Rule]) -> list[int]:
    try:
        ids = shell.rules.add(rules, shell.now_ns())
    except RuleError as error:
        raise Refused(str(error)) from error
    shell.catch_up()  # what begins at once strikes at once
    return ids


def _shown(armed: Armed, now_ns: int) -> Json:
    state = "over" if armed.over else "waiting" if armed.from_ns > now_ns else "in force"
    return {
        "id": armed.id,
        "state": state,
        "fired": armed.fired,
        "from_ns": armed.from_ns,
        "until_ns": armed.until_ns,
        **_told(armed.rule),
    }


def _told(rule: Rule) -> Json:
    told = msgspec.structs.asdict(rule)
    return {name: told[name] for name in told if name in KINDS[rule.kind].names}
