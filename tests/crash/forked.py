"""A process that forks while its app is open: `python -m tests.crash.forked URL`.

The child tries to use the app, and says what came of it; then the parent goes on using it.
"""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from typing import Any

import outlast
from outlast import App, TaskContext, TaskRun, task


async def work(label: str) -> str:
    return label


@task(name="crash.simple")
async def simple(ctx: TaskContext[str]) -> str:
    return await ctx.step("work", work, ctx.input)


def answer_of(call: Coroutine[Any, Any, object]) -> str:
    """Let the call do what it does at once; nobody would wake it in a forked process."""
    try:
        call.send(None)
    except StopIteration:
        return "an answer"
    except Exception as error:  # noqa: BLE001 - it is the answer
        return type(error).__name__
    finally:
        call.close()
    return "it waits"


async def first_item(run: TaskRun[str]) -> object:
    return await anext(aiter(run.stream()))


async def first_entry(run: TaskRun[str]) -> object:
    return await anext(aiter(run.history()))


async def leave(app: App) -> None:
    await app.__aexit__(None, None, None)


async def runs_of(app: App) -> object:
    return app.runs


def tried_in_child(app: App, run: TaskRun[str]) -> dict[str, str]:
    return {
        "start": answer_of(simple.start("a", id="late")),
        "start without an app": answer_of(simple.options(app=app).start("a")),
        "get": answer_of(simple.get("r")),
        "list": answer_of(simple.list()),
        "runs": answer_of(runs_of(app)),
        "result": answer_of(run.result()),
        "refresh": answer_of(run.refresh()),
        "signal": answer_of(run.signal("go")),
        "cancel": answer_of(run.cancel()),
        "abort": answer_of(run.abort()),
        "stream": answer_of(first_item(run)),
        "history": answer_of(first_entry(run)),
        "leave": answer_of(leave(app)),
    }


async def main(url: str) -> None:
    async with outlast.open(url) as app:
        run = await simple.start("a", id="r")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, json.dumps(tried_in_child(app, run)).encode())
            os._exit(0)
        os.close(writing)
        said = await asyncio.to_thread(os.read, reading, 65536)
        await asyncio.to_thread(os.waitpid, child, 0)
        os.close(reading)
        assert (await run.result()).output == "a"
        result = await simple.run("done", id="later")
    sys.stdout.write(json.dumps({"child": json.loads(said), "parent": result.output}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
