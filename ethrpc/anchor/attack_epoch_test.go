package anchor_test

import (
	"testing"
	"time"
)

// TestAnEndpointThatIsAnEpochBehind: of the nodes behind one address some are a few minutes behind the others.
func TestAnEndpointThatIsAnEpochBehind(t *testing.T) {
	w := newWorld(t)
	c := w.client(w)
	w.finalize(start + 60)
	w.says(c, start+60, true)
	w.finalize(start + 50)
	w.now = w.now.Add(15 * time.Second)
	w.says(c, start+60, true)
}
