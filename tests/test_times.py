"""RFC 3339 in and out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import oracle
import pytest
from date_times import DATE_TIMES, LOWER_CASE, NO_DATE_TIMES, NOT_STORABLE
from hypothesis import given
from hypothesis import strategies as st
from strategies import exhaustive

from tap_fullstory.times import (
    format_rfc3339,
    from_epoch,
    is_date_time,
    parse_rfc3339,
)

UTC = timezone.utc


@pytest.mark.parametrize("text", [*DATE_TIMES, *LOWER_CASE])
def test_text_that_is_a_date_time(text: str) -> None:
    assert is_date_time(text)
    assert oracle.is_date_time(text)


@pytest.mark.parametrize("text", NO_DATE_TIMES)
def test_text_that_is_not_a_date_time(text: str) -> None:
    assert not is_date_time(text)
    assert not oracle.is_date_time(text)
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", NOT_STORABLE)
def test_what_targets_do_not_store_is_not_a_date_time(text: str) -> None:
    assert not is_date_time(text)
    assert not oracle.is_date_time(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-06-01T12:00:00Z", datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ("2026-06-01t12:00:00z", datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ("2026-06-01T12:00:00-00:00", datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ("2026-06-01T12:00:00.5Z", datetime(2026, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-06-01T12:00:00.000001Z", datetime(2026, 6, 1, 12, 0, 0, 1, tzinfo=UTC)),
        # Cut, not rounded: a time is never put after itself.
        ("2026-06-01T12:00:00.123456789Z", datetime(2026, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-06-01T12:00:59.999999999Z", datetime(2026, 6, 1, 12, 0, 59, 999_999, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        # East of Greenwich it is later on the clock.
        ("2026-06-01T12:00:00+05:30", datetime(2026, 6, 1, 6, 30, tzinfo=UTC)),
        ("2026-06-01T12:00:00-05:30", datetime(2026, 6, 1, 17, 30, tzinfo=UTC)),
        ("2026-01-01T00:30:00+01:00", datetime(2025, 12, 31, 23, 30, tzinfo=UTC)),
        ("2026-06-01T12:00:00-23:59", datetime(2026, 6, 2, 11, 59, tzinfo=UTC)),
        # The second after 59 that the calendar does not have is the next minute's first.
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01T00:59:60.25+01:00", datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00-00:01", datetime(1, 1, 1, 0, 1, tzinfo=UTC)),
    ],
)
def test_the_time_that_a_date_time_names(text: str, time: datetime) -> None:
    parsed = parse_rfc3339(text)
    assert parsed == time
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "0000-02-29T00:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_a_date_time_that_python_has_no_time_for(text: str) -> None:
    with pytest.raises(ValueError, match="year"):
        parse_rfc3339(text)


@exhaustive(200)
@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_back(time: datetime) -> None:
    text = format_rfc3339(time)
    assert is_date_time(text)
    assert parse_rfc3339(text) == time


@exhaustive(200)
@given(
    time=st.datetimes(
        min_value=datetime(2, 1, 1),  # noqa: DTZ001 - as Hypothesis asks for it
        max_value=datetime(9998, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
    minutes=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_the_same_time_by_another_clock(time: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    assert parse_rfc3339(time.astimezone(zone).isoformat()) == time
    assert format_rfc3339(time.astimezone(zone)) == format_rfc3339(time)


def test_times_are_written_in_utc_and_no_longer_than_need_be() -> None:
    assert format_rfc3339(datetime(2026, 6, 2, tzinfo=UTC)) == "2026-06-02T00:00:00Z"
    assert format_rfc3339(datetime(2026, 6, 2, 0, 0, 0, 70, UTC)) == "2026-06-02T00:00:00.000070Z"
    east = timezone(timedelta(hours=2))
    assert format_rfc3339(datetime(2026, 6, 2, tzinfo=east)) == "2026-06-01T22:00:00Z"
    assert format_rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "time"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (1_780_315_200, datetime(2026, 6, 1, 12, tzinfo=UTC)),
        (253_402_300_799, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (-62_135_596_800, datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_seconds_since_1970(seconds: int, time: datetime) -> None:
    assert from_epoch(seconds) == time


@pytest.mark.parametrize("seconds", [253_402_300_800, -62_135_596_801, 10**18, -(10**30)])
def test_seconds_beyond_the_calendar(seconds: int) -> None:
    with pytest.raises(ValueError, match="outside the years"):
        from_epoch(seconds)


@exhaustive(1000)
@given(
    text=st.builds(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z".format,
        *[st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32)],
        *[st.integers(0, 24), st.integers(0, 60), st.integers(0, 61), st.integers(0, 999)],
    )
)
def test_date_times_as_fullstory_writes_them(text: str) -> None:
    assert is_date_time(text) == oracle.is_date_time(text)
