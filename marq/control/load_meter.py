"""From the reports of pools to what replicas have done: the measurements behind the number of replicas.

A report is about a second old. So requests are counted from one report of a pool to its next one, by the
times of these reports, whenever they are read. Redis's own `lag` of a consumer group is not used: Redis does
not know it any more after a waiting request was withdrawn.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from marq.control.autoscaling import Load
from marq.registry.reports import PoolReport


@dataclass(frozen=True)
class _Seen:
    """The numbers of one report."""

    moment: float  # of the report
    ready: int
    requests: dict[int, int]  # by the replica's process id

    @classmethod
    def of(cls, report: PoolReport) -> "_Seen":
        ready = sum(replica.is_ready for replica in report.replicas)
        return cls(report.reported, ready, {replica.pid: replica.requests for replica in report.replicas})

    def served_since(self, before: "_Seen") -> int:
        """Requests answered by the replicas of this report; one that is new began at zero."""
        return sum(max(0, count - before.requests.get(pid, 0)) for pid, count in self.requests.items())


class LoadMeter:
    """Measures one model version."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}  # by node
        self._empty = 0.0  # when the queue was empty last

    def look(self, moment: float, waiting: int, is_idle: bool, reports: Iterable[PoolReport]) -> Load:
        """`moment` and the reports' times are of Redis's clock."""
        now = {report.node: _Seen.of(report) for report in reports}
        served = busy_served = 0
        busy_s = 0.0
        if not waiting:
            self._empty = moment
        for node, seen in now.items():
            before = self._seen.get(node)
            if before is None or seen.moment <= before.moment:
                continue
            count = seen.served_since(before)
            served += count
            if self._empty < before.moment:
                busy_served += count
                busy_s += (seen.moment - before.moment) * min(before.ready, seen.ready)
        self._seen = now
        return Load(waiting, is_idle, served, busy_served, busy_s)
