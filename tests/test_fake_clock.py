import pytest

from outlast.testing import FakeClock


def test_time_stands_still_until_it_is_told_to_pass() -> None:
    clock = FakeClock(wall=100.0, boot=10.0)

    clock.advance(2.5)

    assert (clock.wall(), clock.boot(), clock.boot_id()) == (102.5, 12.5, "boot-1")
    with pytest.raises(AssertionError):
        clock.advance(-1)


def test_a_jump_moves_the_wall_clock_alone() -> None:
    clock = FakeClock(wall=100.0, boot=10.0)

    clock.jump(-40)

    assert (clock.wall(), clock.boot()) == (60.0, 10.0)


def test_each_start_of_the_machine_has_an_id_of_its_own() -> None:
    clock = FakeClock(wall=100.0, boot=10.0)
    ids = {clock.boot_id()}

    clock.reboot()
    ids.add(clock.boot_id())
    assert (clock.wall(), clock.boot()) == (100.0, 1.0)
    clock.reboot(boot=7.0)
    ids.add(clock.boot_id())
    assert clock.boot() == 7.0
    clock.reboot(boot_id="named")

    assert len(ids | {clock.boot_id()}) == 4
    assert clock.boot_id() == "named"
