import threading
import time
from collections.abc import Iterator

import pytest

from tissuebridge.readahead import read_ahead


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tissuebridge reader"]


def test_items_come_in_order_and_the_thread_ends() -> None:
    with read_ahead(range(50), depth=2) as items:
        assert list(items) == list(range(50))

    assert reader_threads() == []


def test_the_thread_reads_ahead_but_not_farther_than_asked() -> None:
    read = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            read.append(number)
            yield number

    with read_ahead(numbers(), depth=2) as items:
        next(items)
        deadline = time.monotonic() + 5
        while len(read) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)

        assert len(read) == 4  # one taken, two ready, one in the hand


def test_an_error_of_the_reader_is_raised_where_its_item_was_due() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("in the reader")

    with read_ahead(broken(), depth=2) as items:
        assert next(items) == 1
        with pytest.raises(ZeroDivisionError, match="in the reader"):
            next(items)

    assert reader_threads() == []


def test_the_thread_ends_when_the_consumer_fails_with_a_full_queue() -> None:
    def interrupted() -> None:
        with read_ahead(range(1000), depth=2) as items:
            next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert reader_threads() == []
