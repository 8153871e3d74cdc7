-- What wrk cannot say with options: how many requests are written at once, bodies, and results that are easy to read.
-- wrk ... -s bench/load.lua URL -- PIPELINED UPLOAD_BYTES
--
-- All is done before the run: without a global `request`, wrk sends one string that it was given at the start, and no Lua runs then.

local pipelined = 1

function init(args)
    pipelined = tonumber(args[1]) or 1
    local upload = tonumber(args[2]) or 0
    if upload > 0 then
        wrk.method = "POST"
        wrk.body = string.rep("x", upload)
    end
    if pipelined > 1 then
        local format = wrk.format
        wrk.format = function(...)
            return string.rep(format(...), pipelined)
        end
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    local transport = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format('{"requests": %d, "seconds": %.6f, "failed": %d, "refused": %d, "microseconds": {',
        summary.requests, summary.duration / 1e6, transport, errors.status))
    -- wrk corrects for what it takes to be requests sent late, and takes all pipelined ones to be: then only the longest is true.
    for _, percent in ipairs(pipelined > 1 and {} or {50, 75, 90, 95, 99, 99.9}) do
        io.write(string.format('"%g": %.0f, ', percent, latency:percentile(percent)))
    end
    io.write(string.format('"100": %.0f}}\n', latency.max))
end
