"""Many jobs in one request: reads them as they arrive, queues them in groups, answers with their ids."""
