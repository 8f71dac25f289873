"""Apps whose time a test moves, as a type checker sees them. Only checked, never run."""

from datetime import UTC, datetime, timedelta
from typing import assert_type

from outlast import App, TaskContext, task, testing


@task
async def handler(ctx: TaskContext[int]) -> str:
    return str(ctx.input)


async def moved() -> int:
    async with testing.app() as app:
        assert_type(app, testing.SkippingApp)
        assert_type(app.now, datetime)
        await app.advance(timedelta(days=3))
        await app.advance()
        await app.restart()
        run = await handler.options(app=app).start(3)
        assert_type((await run.result()).output, str)
    testing.app(
        "sqlite:///tests.db",
        now=datetime(2030, 1, 1, tzinfo=UTC),
        patience=timedelta(seconds=1),
        worker=False,
        concurrency=3,
        queues=("default", "slow"),
        lease=timedelta(seconds=15),
        grace=timedelta(seconds=10),
        namespace="tests",
        resources={"client": object()},
        max_payload=1_000,
    )

    await app.advance(3)  # type: ignore[arg-type]
    opened: App = app
    del opened
    return 3


assert_type(testing.run(moved()), int)
testing.run(moved(), now=datetime(2030, 1, 1, tzinfo=UTC))
