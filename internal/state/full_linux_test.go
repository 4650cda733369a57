package state_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/state"
)

// full has the system refuse every write to a file, as a full disk does, until the returned function is called.
func full(t *testing.T) (free func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &none); err != nil {
		t.Fatal(err)
	}
	free = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(free)
	return free
}

// TestADiskThatTakesNothing runs in its own process, because the limit is per process.
func TestADiskThatTakesNothing(t *testing.T) {
	if os.Getenv("STATE_FULL") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestADiskThatTakesNothing$")
		cmd.Env = append(os.Environ(), "STATE_FULL=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for _, row := range []struct {
		sentence  string
		meanwhile func(t *testing.T, s *state.State)
	}{
		{"events that come", func(t *testing.T, s *state.State) { scan(t, s, kms, first+70) }},
		{"a contract that is new", func(t *testing.T, s *state.State) { scan(t, s, other, first+10) }},
		{"a branch that is gone", func(t *testing.T, s *state.State) {
			if err := s.Rewind(kms, first+20, blockHash(first+20)); err != nil {
				t.Error(err)
			}
			scan(t, s, kms, first+30)
		}},
		{"all that is read anew", func(t *testing.T, s *state.State) {
			if err := s.Reset(kms); err != nil {
				t.Error(err)
			}
			scan(t, s, kms, first+60)
		}},
		{"what is found out of an event", func(t *testing.T, s *state.State) {
			e := s.Events(kms)[0]
			if e.Actor = kms.Contract; s.Annotate(kms, e) != nil {
				t.Error("the event is not annotated")
			}
		}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			path := file(t)
			s := open(t, path)
			scan(t, s, kms, first+50)
			must(t, s.Save())
			kept := read(s)
			free := full(t)
			row.meanwhile(t, s)
			if err := s.Save(); err == nil {
				t.Error("nothing was saved, and nobody says so")
			}
			known := read(s)
			if differ(kept, known) == "" {
				t.Error("nothing is known of it")
			}
			v, err := state.View(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := differ(kept, read(v)); d != "" {
				t.Error("the file changed: ", d)
			}
			free()
			must(t, s.Save())
			if d := differ(known, read(view(t, path))); d != "" {
				t.Error("once there is room, (-memory +file): ", d)
			}
		})
	}
}
