package anchor_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// TestACheckpointOfZeros is an error and no panic.
func TestACheckpointOfZeros(t *testing.T) {
	w := newWorld(t)
	w.checkpoint = common.Hash{}
	w.says(w.client(w), 0, false, "checkpoint")
}
