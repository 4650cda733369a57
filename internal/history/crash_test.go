package history_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/history"
)

// TestKilledAtAnyMoment kills a process that appends, twenty times, and goes on where it was.
func TestKilledAtAnyMoment(t *testing.T) {
	path := file(t)
	var next uint64
	for range 20 {
		cmd, out := child(t, "append", path)
		said, lines := next, rand.IntN(40)
		for n := 0; ; n++ {
			if n == lines {
				cmd.Process.Kill() // while it goes on
			}
			line, err := out.ReadString('\n')
			if err != nil {
				break
			}
			if n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64); err == nil {
				said = n
			} else if line != "started\n" {
				t.Fatal(line)
			}
		}
		cmd.Wait()
		s := open(t, path)
		p, _ := s.Progress(kms)
		if p.Next < said || p.Next < next {
			t.Fatalf("it said %d and the file goes on at %d", said, p.Next)
		}
		if next = p.Next; next > 0 {
			want := history.Progress{From: first, Next: next, Hash: blockHash(next - 1)}
			if diff := gocmp.Diff(want, p); diff != "" {
				t.Fatal(diff)
			}
			if want := eventsOf(first, next-1); !slices.Equal(want, s.Events(kms)) {
				t.Fatal(gocmp.Diff(want, s.Events(kms)))
			}
		}
		s.Close()
	}
	if next <= first+100 {
		t.Errorf("it came to block %d only", next)
	}
}
