-- Takes or renews the lease of a name. KEYS: the lease. ARGV: the owner's token, the owner, ms.
-- Returns the present owner and the rest of its lease in ms; an empty text if the caller has it now.
local owner = redis.call('GET', KEYS[1])
if owner and string.match(owner, '^%S+') ~= ARGV[1] then
    return {owner, redis.call('PTTL', KEYS[1])}
end
if owner == ARGV[2] then
    redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- possible also where Redis is full
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return {'', ARGV[3]}
