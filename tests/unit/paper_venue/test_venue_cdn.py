"""The CDN before the Data API: how old an answer may be, and how to get a fresh one."""

import pytest
from data_bench import LEADER, a_bench

from services.paper_venue.cdn import BYTES_MAX, ENTRIES_MAX, Cache, Kept


@pytest.mark.parametrize(
    ("path", "max_age_s"),
    [("/v2/trades", 300), ("/v2/oi", 300), ("/v2/activity", 15), ("/v2/positions", 5)],
)
async def test_the_same_question_gets_the_same_answer_until_it_is_too_old(
    path: str, max_age_s: int
) -> None:
    async with a_bench() as bench:
        query = {"user": LEADER, "condition_id": bench.condition}
        status, before, headers = await bench.ask(path, **query)
        assert (status, headers["X-Cache"]) == (200, "Miss from cloudfront")
        assert headers["Cache-Control"] == f"public, max-age={max_age_s}"
        await bench.fill(immediate=True)
        await bench.pass_ms(max_age_s * 1_000 - 1)
        _, same, headers = await bench.ask(path, **query)
        assert (same, headers["X-Cache"]) == (before, "Hit from cloudfront")
        assert headers["Age"] == str(max_age_s - 1)
        _, fresh, headers = await bench.ask(path, **query, _=1)
        assert headers["X-Cache"] == "Miss from cloudfront", "a varying parameter busts it"
        assert fresh != before
        await bench.pass_ms(1)
        _, after, headers = await bench.ask(path, **query)
        assert (after, headers["X-Cache"]) == (fresh, "Miss from cloudfront")
        assert "Age" not in headers


async def test_a_request_cannot_talk_the_cache_away() -> None:
    async with a_bench() as bench:
        url, query = f"{bench.url}/v2/activity", {"user": LEADER}
        seen = []
        for _ in range(2):
            headers = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
            async with bench.session.get(url, params=query, headers=headers) as answer:
                seen.append(answer.headers["X-Cache"])
        assert seen == ["Miss from cloudfront", "Hit from cloudfront"]


async def test_errors_status_and_a_cache_switched_off_are_never_old() -> None:
    async with a_bench() as bench:
        for _ in range(2):
            status, _body, headers = await bench.ask("/v2/activity", user="me")
            assert (status, headers["X-Cache"]) == (400, "Error from cloudfront")
            _, _body, headers = await bench.ask("/v2/status")
            assert "X-Cache" not in headers
    async with a_bench(cdn=False) as bench:
        for size in (0, 1):
            _, body, headers = await bench.ask("/v2/activity", user=LEADER)
            assert (len(body["data"]), "X-Cache" in headers) == (size, False)
            await bench.fill(immediate=True)


def test_the_cache_is_bounded_in_answers_and_in_bytes() -> None:
    cache = Cache()
    for number in range(ENTRIES_MAX + 10):
        cache.keep(str(number), Kept(b"x", "text/plain", 5))
    assert cache.find("9", 0) is None
    assert cache.find("10", 0) is not None
    big = Kept(b"x" * (BYTES_MAX // 2), "text/plain", 5)
    for name in ("a", "b", "c"):
        cache.keep(name, big)
    assert [cache.find(name, 0) is not None for name in ("10", "a", "b", "c")] == [
        *(False, False, True, True)
    ]
    cache.keep("b", big)
    assert cache.find("c", 0) is not None, "an answer that is replaced counts once"
