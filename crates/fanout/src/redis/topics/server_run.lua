-- The name of the run of this server: another one after each start.
local info = redis.pcall('INFO', 'server')
return { 1, type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown' }
