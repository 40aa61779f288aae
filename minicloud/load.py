"""A write load: clients that insert numbered rows as fast as they are answered, and remember every answer.

It is how the book and its tests count what a failure loses: a row that was acknowledged and is not there afterwards.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One acknowledged row: which writer's which row, and when (seconds since the epoch) it was sent and answered."""

    writer: int
    n: int
    sent: float
    answered: float


class WriteLoad:
    """Writers that each insert (writer, n), n = 1, 2, 3, …, and commit every row, until the `with` block ends.

    `connect` returns a new DB-API connection in autocommit mode (psycopg, pymysql). A writer whose statement fails
    counts an error, connects again, and goes on with its next row: the failed one is in doubt, neither acknowledged nor
    surely absent.
    """

    def __init__(self, connect: Callable[[], Any], writers: int = 2, table: str = "written", pause: float = 0):
        self.connect, self.table, self.pause = connect, table, pause
        self.answers: list[Answer] = []
        self.errors: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(w,), daemon=True) for w in range(writers)]

    def __enter__(self) -> "WriteLoad":
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self.table}")
            cursor.execute(f"CREATE TABLE {self.table} (writer int, n int, PRIMARY KEY (writer, n))")
        connection.close()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _write(self, writer: int) -> None:
        connection, n = None, 0
        while not self._stop.is_set():
            sent = time.time()
            try:
                if connection is None:
                    connection = self.connect()
                n += 1
                sent = time.time()
                with connection.cursor() as cursor:
                    cursor.execute(f"INSERT INTO {self.table} VALUES (%s, %s)", (writer, n))
                self.answers.append(Answer(writer, n, sent, time.time()))
            except Exception as error:
                self.errors.append((sent, str(error).strip()))
                connection = _closed(connection)
                self._stop.wait(0.01)
            if self.pause:
                self._stop.wait(self.pause)
        _closed(connection)

    def rows(self, connection) -> set[tuple[int, int]]:
        """Return the rows (writer, n) that a database holds."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT writer, n FROM {self.table}")
            return {(writer, n) for writer, n in cursor.fetchall()}

    def lost(self, connection) -> set[tuple[int, int]]:
        """Return the rows that were acknowledged and that a database does not hold."""
        return {(answer.writer, answer.n) for answer in self.answers} - self.rows(connection)

    def longest_gap(self) -> float:
        """Return the longest time, in seconds, in which no row was acknowledged: the outage as the writers saw it."""
        times = sorted(answer.answered for answer in self.answers)
        return max((after - before for before, after in zip(times, times[1:])), default=0.0)


def _closed(connection) -> None:
    try:
        if connection is not None:
            connection.close()
    except Exception:
        pass  # it was broken: that is why it is closed
