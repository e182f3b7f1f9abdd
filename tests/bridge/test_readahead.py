import threading
import time
from collections.abc import Iterator

import pytest

from tissuebridge.readahead import finish_behind, read_ahead

WAIT_S = 20


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


def test_the_thread_finishes_one_thing_while_the_caller_computes_the_next_but_no_more() -> None:
    next_is_computed, done = threading.Event(), []

    def first() -> None:
        assert next_is_computed.wait(WAIT_S)
        done.append("first")

    with finish_behind() as finish:
        finish(first)
        next_is_computed.set()  # not reached if the caller finished things itself
        finish(done.append, "second")
        assert done[0] == "first"  # it waited for that

    assert done == ["first", "second"]
    assert all(not thread.name.startswith("tissuebridge finisher") for thread in threading.enumerate())


def test_what_goes_wrong_behind_is_raised_at_the_next_thing_which_is_not_begun() -> None:
    done: list[str] = []

    def block() -> None:
        with finish_behind() as finish:
            finish(int, "no number")
            finish(done.append, "next")

    with pytest.raises(ValueError, match="no number"):
        block()
    assert done == []


def test_what_goes_wrong_with_the_last_thing_is_raised_at_the_end() -> None:
    with pytest.raises(ValueError, match="no number"), finish_behind() as finish:
        finish(int, "no number")


def test_a_caller_that_fails_leaves_nothing_unfinished() -> None:
    done: list[str] = []

    def interrupted() -> None:
        with finish_behind() as finish:
            finish(time.sleep, 0.05)
            finish(done.append, "kept")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["kept"]
