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
