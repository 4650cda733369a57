//go:build !race

package ethrpc_test

const slower = 1
