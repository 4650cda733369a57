package main

// Exported for tests.
var (
	NewMeter   = newMeter
	Transport  = transport
	ReadReport = readReport
)

func (m *meter) Counts() (requests, bytes int64) { return m.requests.Load(), m.bytes.Load() }
