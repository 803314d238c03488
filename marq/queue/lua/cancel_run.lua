-- Ends a run of a workflow whose client does not wait for it any more.
-- KEYS  1 record of the run (hash)
-- Returns 1 if it had not ended.
return runs.cancel(KEYS[1]) and 1 or 0
