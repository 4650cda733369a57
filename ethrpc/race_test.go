//go:build race

package ethrpc_test

// slower is how many times longer the race detector may make a test of time.
const slower = 15
