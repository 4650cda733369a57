package anchor_test

import (
	"testing"
	"time"
)

// TestDocumentsOfADayProveTheirHead: the update of a period often comes after the finality update that began it, and that
// one is served unchanged for minutes.
func TestDocumentsOfADayProveTheirHead(t *testing.T) {
	w := newWorld(t)
	c := w.client(w)
	w.says(c, start, true)
	w.finalize(2*period + 5)
	w.says(c, 2*period+5, true)
	for range 3 {
		w.now = w.now.Add(time.Second)
		head := w.says(c, 2*period+5, true)
		again, err := head.Documents.Replay(w.now)
		if err != nil || again.Finalized != head.Finalized || again.Attested != head.Attested {
			t.Fatalf("%+v, %v", again, err)
		}
	}
}
