"""A run that kills whoever takes it up fails in the end, and hurts nobody else."""

import pytest

from outlast import TaskFailed
from tests.crash import tasks
from tests.crash.stage import PATIENCE, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]


async def test_a_run_that_kills_its_process_each_time_fails(stage: Stage) -> None:
    neighbour = await stage.worker()
    patients = [
        await tasks.patient.options(app=stage.app).start(None, id=f"p{number}")
        for number in range(3)
    ]
    run = await tasks.doomed.options(app=stage.app).start(None, id="r")

    for _ in range(tasks.MAX_RECOVERIES):
        victim = await stage.worker(queue="doomed")
        assert await victim.gone == -9
    survivor = await stage.worker(queue="doomed")
    with pytest.raises(TaskFailed) as failed:
        await run.result()
    for patient in patients:
        await patient.signal("go")
    recoveries = [(await patient.result()).output for patient in patients]

    assert failed.value.error.type == "ProcessDied"
    deaths = stage.ledger.lines("did", "r", "death")
    assert len({line.pid for line in deaths}) == len(deaths) == tasks.MAX_RECOVERIES
    assert len(stage.ledger.lines("did", "r", "once")) == 1
    assert recoveries == [0, 0, 0]
    assert (await survivor.close(), await neighbour.close()) == (0, 0), stage.said()
