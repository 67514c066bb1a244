"""Which bundles come, in what order: each once, none left out, and an end to every listing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain, islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_fullstory.errors import SourceError
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.exports.data_export import BundleListing
from tap_fullstory.fullstory.client import Client
from tap_fullstory.sandbox import Bundle as Listed
from tap_fullstory.sandbox import Sandbox, generated_bundles
from tap_fullstory.settings import parse_config

DAY = 24 * 60 * 60
FIRST = 1_600_041_600  # 2020-09-14T00:00:00Z


def at_second(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)


def bundles_after(client: Any, after: datetime, until: datetime | None) -> Iterator[Bundle]:
    return BundleListing(client, now=at_second(2**33)).after(after, until)


def bundle(identity: object, end: int, start: int | None = None) -> Bundle:
    return Bundle(str(identity), at_second(end - 10 if start is None else start), at_second(end))


class Listing:
    """A listing by the documentation: what ends after `after`, oldest first, twenty at a time.

    `repeats` also answers what ends exactly at `after`, `shuffled` keeps no order in a page.
    """

    def __init__(
        self, bundles: list[Bundle], repeats: bool = False, shuffled: bool = False
    ) -> None:
        self.bundles = sorted(bundles, key=lambda bundle: bundle.end)
        self.repeats = repeats
        self.shuffled = shuffled
        self.asked: list[int] = []

    def list_bundles(self, after: int) -> list[Bundle]:
        assert len(self.asked) < 100, "asks for ever"
        self.asked.append(after)
        at = at_second(after)
        page = [b for b in self.bundles if b.end > at or (self.repeats and b.end == at)][:20]
        return random.Random(after).sample(page, len(page)) if self.shuffled else page


def ids(listing: Any, after: float = 0, until: float | None = None) -> list[str]:
    end = None if until is None else at_second(until)
    return [bundle.id for bundle in bundles_after(listing, at_second(after), end)]


def numbered(count: int) -> list[Bundle]:
    return [bundle(number, 10 * (number + 1)) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 40, 60, 61])
@pytest.mark.parametrize("quirks", [{}, {"repeats": True}, {"shuffled": True}], ids=str)
def test_every_bundle_once_and_in_order(count, quirks):
    listing = Listing(numbered(count), **quirks)
    assert ids(listing) == [str(number) for number in range(count)]
    assert listing.asked[0] == 0
    assert listing.asked == sorted(set(listing.asked))


def test_the_next_page_is_requested_by_the_last_end():
    listing = Listing(numbered(45))
    ids(listing)
    assert listing.asked == [0, 200, 400]


def test_the_start_is_exclusive_and_the_end_inclusive():
    listing = Listing(numbered(5))  # they end at 10, 20, ... 50
    assert ids(listing, after=20) == ["2", "3", "4"]
    assert ids(listing, after=19.5) == ["1", "2", "3", "4"]
    assert ids(listing, after=0, until=30) == ["0", "1", "2"]
    assert ids(listing, after=0, until=29.5) == ["0", "1"]
    assert ids(listing, after=50) == []
    assert ids(listing, after=30, until=20) == []


def test_bundles_up_to_the_bookmark_are_dropped_if_listed_again():
    assert ids(Listing(numbered(5), repeats=True), after=20) == ["2", "3", "4"]


def test_a_fractional_second_is_rounded_down_in_the_request():
    listing = Listing(numbered(3))
    assert ids(listing, after=10.25) == ["1", "2"]
    assert listing.asked == [10]


@given(st.data())
def test_disjoint_ranges_share_no_bundle_and_leave_no_gap(data):
    ends = data.draw(st.lists(st.integers(1, 500), unique=True, max_size=60))
    bundles = [bundle(end, end, start=end - 7) for end in ends]
    cuts = sorted({0, 600, *data.draw(st.lists(st.integers(1, 500), max_size=5))})
    listing = Listing(bundles, repeats=data.draw(st.booleans()))
    shards = [ids(listing, low, high) for low, high in pairwise(cuts)]
    assert list(chain(*shards)) == [str(end) for end in sorted(ends)]


def test_bundles_of_one_end_come_by_their_start():
    listing = Listing([bundle("b", 100, 50), bundle("a", 100, 20), bundle("c", 90, 80)])
    assert ids(listing) == ["c", "a", "b"]


def test_a_bundle_listed_twice_comes_once():
    class Grows(Listing):
        """The last bundle of the first page has a later end by the time of the second."""

        def list_bundles(self, after: int) -> list[Bundle]:
            page = super().list_bundles(after)
            return page if after == 0 else [bundle(19, 205), *page]

    assert ids(Grows(numbered(22))) == [str(number) for number in range(22)]


def test_bundles_of_one_end_split_over_two_pages_are_all_found():
    """The next page shows the other half, if the listing repeats what was asked past."""
    bundles = [*numbered(19), bundle("x", 200), bundle("y", 200), bundle("z", 210)]
    assert ids(Listing(bundles, repeats=True)) == [*map(str, range(19)), "x", "y", "z"]


class TestAListingThatDoesNotMove:
    def test_the_bundles_before_it_come_and_then_an_error(self):
        bundles = [*numbered(5), *[bundle(f"same-{n}", 100) for n in range(25)], bundle("z", 110)]
        found = bundles_after(Listing(bundles, repeats=True), at_second(0), None)
        assert [bundle.id for bundle in islice(found, 5)] == list("01234")
        with pytest.raises(SourceError, match="is stuck at 1970-01-01T00:01:40Z"):
            next(found)

    def test_a_page_that_ignores_its_parameters(self):
        class Stuck(Listing):
            def list_bundles(self, after: int) -> list[Bundle]:
                return super().list_bundles(after if not self.asked else 0)

        found = bundles_after(Stuck(numbered(30)), at_second(0), None)
        with pytest.raises(SourceError, match="is stuck at"):
            list(found)

    @pytest.mark.parametrize("number", [20, 25])
    @pytest.mark.parametrize("repeats", [False, True])
    def test_a_page_of_one_end_may_hide_others(self, number, repeats):
        bundles = [bundle(f"same-{n}", 100) for n in range(number)]
        with pytest.raises(SourceError, match="is stuck at"):
            ids(Listing(bundles, repeats=repeats))

    @pytest.mark.parametrize("repeats", [False, True])
    def test_those_that_share_the_end_of_a_page_are_all_found(self, repeats):
        bundles = [*numbered(18), *[bundle(f"same-{n}", 500) for n in range(19)], bundle("z", 510)]
        assert len(ids(Listing(bundles, repeats=repeats))) == 38


def test_pages_are_requested_as_they_are_needed():
    listing = Listing(numbered(60))
    found = bundles_after(listing, at_second(0), None)
    assert [bundle.id for bundle in islice(found, 19)] == [str(number) for number in range(19)]
    assert listing.asked == [0]


def test_nothing_is_requested_past_the_end_date():
    listing = Listing(numbered(60))
    assert len(ids(listing, until=100)) == 10
    assert listing.asked == [0]


# --- over the sandbox, by HTTP ---


@pytest.fixture
def open_client() -> Iterator[Any]:
    opened: list[Sandbox] = []

    def make(bundles: list[Listed], **options: Any) -> Client:
        opened.append(Sandbox(bundles, **options))
        return Client(parse_config(opened[-1].config(), at_second(0), {}))

    yield make
    for sandbox in opened:
        sandbox.close()


@pytest.mark.parametrize("list_style", ["capitals", "lower-strings"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_sixty_bundles_are_listed_in_either_style(open_client, list_style, inclusive):
    bundles = generated_bundles(60, 0)
    client = open_client(bundles, list_style=list_style, inclusive_list=inclusive)
    with client:
        found = list(bundles_after(client, at_second(bundles[0].start), None))
    assert found == [Bundle(b.id, at_second(b.start), at_second(b.stop)) for b in bundles]


def test_a_bundle_that_began_before_the_bookmark_is_listed(open_client):
    with open_client([Listed("1", FIRST, FIRST + DAY, b"[]")]) as client:
        assert ids(client, after=FIRST + DAY - 1) == ["1"]
        assert ids(client, after=FIRST + DAY) == []
