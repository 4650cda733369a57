package observe

import (
	"testing"
	"time"
)

// AnnotateAgain changes, for a test or benchmark that runs alone, how soon is asked again for what events do not say.
func AnnotateAgain(t testing.TB, after time.Duration) {
	before := annotateAgain
	annotateAgain = after
	t.Cleanup(func() { annotateAgain = before })
}

// SetClock moves the clock ahead, for a test that runs alone.
func SetClock(t testing.TB, ahead time.Duration) {
	before := now
	now = func() time.Time { return before().Add(ahead) }
	t.Cleanup(func() { now = before })
}
