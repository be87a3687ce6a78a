"""The filtered stream's rules at the stand-in: what it refuses takes nothing else with it."""

from pydantic import SecretStr

from app.networks.x.calls import open_app
from app.networks.x.stream_rules import StreamRules
from tests.stand_in import StandIn, StartX

PATH = "/2/tweets/search/stream/rules"
# X knows no rule with such a tag in it; ours come from offers, which X need not agree with.
BAD = 'a"b'


async def reconciled(x: StandIn, *tags: str, rules_max: int = 1_000) -> tuple[object, ...]:
    settings = x.settings.model_copy(update={"x_app_token": SecretStr("app")})
    async with open_app(settings) as client:
        return await StreamRules(client, rules_max=rules_max).reconcile(set(tags))


async def present(x: StandIn) -> list[tuple[str, str | None]]:
    answer = await x.client.get(PATH, headers={"Authorization": "Bearer app"})
    return [(rule["value"], rule.get("tag")) for rule in answer.json().get("data", [])]


async def add(x: StandIn, *rules: tuple[str, str]) -> None:
    body = {"add": [{"value": value, "tag": tag} for value, tag in rules]}
    answer = await x.client.post(PATH, json=body, headers={"Authorization": "Bearer app"})
    assert "errors" not in answer.json(), answer.text


class TestATagThatXRefuses:
    async def test_silences_no_other(self, start_x: StartX) -> None:
        x = await start_x()
        assert await reconciled(x, "Tea") == (1, True, frozenset(), True)
        assert await reconciled(x, "Tea", "Cake", BAD) == (1, True, {BAD}, True)
        assert await present(x) == [("(#Tea OR #Cake) -is:retweet", "tagback:1")]
        assert await reconciled(x, "Tea", "Cake", BAD) == (1, False, {BAD}, True)
        assert await present(x) == [("(#Tea OR #Cake) -is:retweet", "tagback:1")]

    async def test_alone_leaves_no_rule(self, start_x: StartX) -> None:
        assert await reconciled(await start_x(), BAD) == (0, False, {BAD}, True)


class TestWithoutRoom:
    """X's own limit is 1,000, whatever we think that it is."""

    async def test_what_x_has_stays_and_no_tag_is_blamed(self, start_x: StartX) -> None:
        x = await start_x()
        tags = [f"tag{number}" for number in range(1, 1_001)]
        await add(x, *((f"(#{tag}) -is:retweet", f"tagback:{tag[3:]}") for tag in tags))
        found = await reconciled(x, "Cake", *tags, rules_max=2_000)
        assert found == (1_000, False, frozenset(), False)

    async def test_strangers_make_some(self, start_x: StartX) -> None:
        x = await start_x()
        await add(x, *((f"#stranger{number}", "theirs") for number in range(1_000)))
        assert await reconciled(x, "Tea", rules_max=2_000) == (1, True, frozenset(), True)

    async def test_tags_that_are_left_out_are_lacking(self, start_x: StartX) -> None:
        long = ["a" * 270 + str(number) for number in range(5)]
        rules, _, _, is_whole = await reconciled(await start_x(), *long, rules_max=1)
        assert (rules, is_whole) == (1, False)


async def test_a_rule_that_x_has_under_another_name_is_kept(start_x: StartX) -> None:
    x = await start_x()
    await add(x, ("(#Tea) -is:retweet", "theirs"))
    assert await reconciled(x, "Tea") == (1, False, frozenset(), True)
    assert await present(x) == [("(#Tea) -is:retweet", "theirs")]
