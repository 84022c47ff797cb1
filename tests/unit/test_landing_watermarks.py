"""How often the broker is asked for offsets before landing gives up."""

from collections.abc import Iterator

import pytest

from spark_jobs.sources.kafka import NoAnswerError, Watermarks
from spark_jobs.sources.ranges import Slot

OFFSETS = ({Slot("t", 0): 1}, {Slot("t", 0): 9})


class Halting(Watermarks):
    """Its first answers stay out, as after a process was halted."""

    def __init__(self, silent: int) -> None:
        super().__init__("127.0.0.1:1", ["t"])
        self.answers: Iterator[bool] = iter([False] * silent + [True])

    def _read(self, timeout: float) -> tuple[dict[Slot, int], dict[Slot, int]]:
        if not next(self.answers):
            raise NoAnswerError("no answer")
        return OFFSETS


def test_read_asks_again_when_the_first_answer_stays_out() -> None:
    assert Halting(silent=1).read() == OFFSETS


@pytest.mark.parametrize(("silent", "tries"), [(2, 2), (1, 1)])
def test_read_gives_up_when_every_try_was_in_vain(silent: int, tries: int) -> None:
    with pytest.raises(NoAnswerError):
        Halting(silent).read(tries=tries)
