"""How long and how hard each case tries."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`_s` are seconds, rates are requests a second."""

    rate: float  # of predictions and jobs together
    replicas_killed_s: float
    pools_killed_s: float
    nodes_killed_s: float
    gateways_killed_s: float
    stopped_s: float  # how long a replica or a gateway is stopped
    steps_rate: float  # what two replicas that end all the time can answer
    steps_times: int  # how often a replica dies at each step
    redis_kills: int
    redis_paused_s: float
    redis_full_s: float
    cuts_s: float
    poison_requests: int
    burst: int  # times the queue limit
    job_burst: int
    hostile_entries: int
    large_bodies: int
    idle_connections: int
    slow_clients: int
    slow_s: float
    soak_s: float
    soak_rate: float
    job_ttl_s: int  # of the soak: so that job records come and go while it lasts
    churn_rounds: int  # of 50 changes at once
    churn_rate: float  # beside replicas that start all the time
    flushes: int
    flush_timeout_s: float  # how long clients wait for a prediction that Redis has lost; 0: till they hear
    script_flush_s: float
    files_away_s: float  # for each fault
    forking_s: float
    removals: int
    sized_s: float  # kills while bodies of many sizes are on their way
    sized_places: int  # of their files
    hold_s: float  # how long a job of the two servers takes
    durable_s: float  # of kills while things are submitted that nobody waits for


FULL = Scale(
    rate=200, replicas_killed_s=60, pools_killed_s=60, nodes_killed_s=60, gateways_killed_s=60, stopped_s=20,
    steps_rate=100, steps_times=8, redis_kills=10, redis_paused_s=15, redis_full_s=10, cuts_s=30,
    poison_requests=1000, burst=10, job_burst=5000, hostile_entries=1000, large_bodies=20,
    idle_connections=10_000, slow_clients=200, slow_s=15, soak_s=60, soak_rate=500, job_ttl_s=30,
    churn_rounds=3, churn_rate=50, flushes=3, flush_timeout_s=0, script_flush_s=20, files_away_s=8,
    forking_s=30, removals=10, sized_s=30, sized_places=2, hold_s=3, durable_s=20,
)  # fmt: skip

SHORT = Scale(
    rate=60, replicas_killed_s=1, pools_killed_s=1, nodes_killed_s=1, gateways_killed_s=1.5, stopped_s=0.5,
    steps_rate=50, steps_times=1, redis_kills=1, redis_paused_s=0.5, redis_full_s=1, cuts_s=1,
    poison_requests=100, burst=3, job_burst=800, hostile_entries=100, large_bodies=1, idle_connections=300,
    slow_clients=20, slow_s=0.5, soak_s=1, soak_rate=100, job_ttl_s=2,
    churn_rounds=1, churn_rate=20, flushes=1, flush_timeout_s=5, script_flush_s=1, files_away_s=2,
    forking_s=2, removals=1, sized_s=3, sized_places=1, hold_s=0.5, durable_s=2,
)  # fmt: skip
