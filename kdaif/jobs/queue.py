"""The order of what waits: huey's priority queue in one SQLite file.

It may be lost, or hold a run twice, without harm: the worker fills it from the tickets, and trains a run out of it only while
the run has a ticket. Messages are JSON: reading a file must never run what is in it, as a pickle can.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from huey import SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from kdaif.runs import cache_root


class _Json(Serializer):
    def _serialize(self, data: Any) -> bytes:
        return json.dumps(list(data)).encode()

    def _deserialize(self, data: bytes) -> Message:
        return Message(*json.loads(data))


def open_queue(work: Callable[[str], None] = lambda run_id: None) -> tuple[SqliteHuey, Callable[..., Any]]:
    """The queue of this cache folder, and what puts a run into it: ``put(run_id, priority=0)``.

    `work` is what a consumer of the queue does with a run id.
    """
    path = cache_root() / "queue" / "queue.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    huey = SqliteHuey("kdaif", filename=str(path), results=False, serializer=_Json())

    @huey.task()
    def train_run(run_id: str) -> None:
        work(run_id)

    return huey, train_run


def put(run_id: str, priority: int) -> None:
    """Tell the worker of a run that has a ticket; where the file is busy or full it will find the ticket itself."""
    with suppress(sqlite3.Error):
        huey, add = open_queue()
        with closing(huey.storage):
            add(run_id, priority=priority)


def waiting(huey: SqliteHuey) -> set[str]:
    """Ids of the runs in the queue."""
    return {task.args[0] for task in huey.pending()}
