//go:build e2e

package soak_test

// inside is set where the test runs in a mount namespace of its own, to the folder of programs.
const inside = "SOAK_INSIDE"
