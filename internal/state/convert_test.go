package state_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// released is a file of testdata.
func released(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".db.gz"))
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	b, err := io.ReadAll(z)
	must(t, err)
	return b
}

func TestAFileOfTheFirstReleaseIsConverted(t *testing.T) {
	path := file(t)
	write(t, path, released(t, "schema1"))
	want := open(t, "")
	scan(t, want, state.Target{Chain: "8453", Contract: kms.Contract}, 110) // no audit says what the chains are called
	scan(t, want, state.Target{Chain: "1", Contract: kms.Contract}, 105)
	if got := read(view(t, path)); differ(content{Events: read(want).Events}, content{Events: got.Events}) != "" {
		t.Errorf("the events are %+v", got.Events)
	}
	s := open(t, path)
	s.SetChainID("base", 8453)
	if got := s.Events(kms); len(got) == 0 {
		t.Error("the events are not known by the name that is configured")
	}
	scan(t, s, kms, 120)
	must(t, s.Close())
	scan(t, open(t, path), kms, 130)
}

func TestAFileOfTheLastReleaseIsConverted(t *testing.T) {
	path, old := file(t), released(t, "schema2")
	write(t, path, old)
	v := view(t, path)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, old) {
		t.Errorf("a view changed the file (%v)", err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("a view leaves %q", left)
	}
	s := open(t, path)
	if diff := differ(read(v), read(s)); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile(path + ".bbolt-backup"); err != nil || !bytes.Equal(b, old) {
		t.Errorf("the old file is not kept (%v)", err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(b, []byte("kms-auditor state 3\n")) {
		t.Errorf("the file is not converted (%v)", err)
	}
	must(t, s.Close())
	s = open(t, path)
	if diff := differ(read(v), read(s)); diff != "" {
		t.Errorf("read again: %s", diff)
	}

	p := s.Prior("base")
	var open []string
	for _, o := range p.Open {
		open = append(open, string(o.Finding.Kind)+" "+string(o.Finding.State))
		if !o.Finding.FirstSeen.Before(*o.Finding.LastConfirmedAt) || o.Logged.IsZero() || o.Block != 64 || o.Contract != oldContract.Hex() {
			t.Errorf("it is open as %+v", o)
		}
	}
	if diff := cmp.Diff([]string{"claim_allowed_chain_denied open", "claim_denied_chain_allowed open"}, open); diff != "" {
		t.Error(diff)
	}
	k := p.Contract(oldContract)
	if len(p.Contracts) != 1 || k == nil || k.Baseline == nil || !k.Baseline.Accepted || len(k.Devices) != 4 || len(k.OSImages) != 2 || k.Since.IsZero() {
		t.Errorf("the contracts are %+v", p.Contracts)
	}
	if over := s.Resolved(); len(over) != 1 || over[0].Finding.Kind != audit.ClaimDeniedChainAllowed || over[0].ResolvedAt.IsZero() || over[0].Chain != "base" {
		t.Errorf("resolved is %+v", over)
	}
	id, changes := s.Outbox()
	if id == "" || len(changes) != 1 || changes[0].Type != audit.Open || changes[0].Finding.FirstSeen == nil || changes[0].At.IsZero() {
		t.Errorf("the outbox of %q is %+v", id, changes)
	}
	last, compared := s.Last(), s.Compared()
	if len(last) != 1 || last[0].Block.Number != 96 || last[0].Claim != nil || len(last[0].Errors) != 1 || s.Report().Verdict != audit.Unknown {
		t.Errorf("the last audit is %+v", last)
	}
	if len(compared) != 1 || compared[0].Block.Number != 64 || compared[0].Targets[0].Counts.Pending != 1 || len(compared[0].Targets[0].Entries) != 6 {
		t.Errorf("the last audit that compared is %+v", compared)
	}
	for public, events := range map[bool]int{false: 7, true: 1} {
		of := state.Target{Chain: "base", Contract: oldContract, Public: public}
		if progress, _ := s.Progress(of); progress.From != 2 || progress.Next != 65 || len(s.Events(of)) != events {
			t.Errorf("the timeline is %+v with %d events", progress, len(s.Events(of)))
		}
	}

	// The next audit goes on where the last release ended. A day later it would log again what is open.
	at := p.Open[0].Logged.Add(time.Minute)
	out := audit.Judge(audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Baselines: true}, p, audit.Looks{First: audit.Observation{At: at}})
	if len(out.Next.Open) != 2 || len(out.Changes) > 0 || out.Chain.Verdict != audit.Unknown {
		t.Errorf("an audit without sources changes %+v", out.Changes)
	}
}

// TestAnOldFileIsKeptWhateverIsThere converts a second file at the same place.
func TestAnOldFileIsKeptWhateverIsThere(t *testing.T) {
	path := file(t)
	for _, name := range []string{"schema1", "schema2", "schema2"} {
		write(t, path, released(t, name))
		must(t, open(t, path).Close())
	}
	if kept, _ := filepath.Glob(path + ".bbolt-backup*"); len(kept) < 2 {
		t.Errorf("kept are %q", kept)
	}
}

// edit changes a bbolt database as another program would.
func edit(t *testing.T, path string, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	defer db.Close()
	must(t, db.Update(change))
}

func TestUnusableOldFilesAreRefused(t *testing.T) {
	schema := func(n string) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte("kms-auditor")).Put([]byte("schema"), []byte(n)) }
	}
	first := func(bucket string) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			c := tx.Bucket([]byte(bucket)).Cursor()
			c.First()
			return c.Delete()
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  string
	}{
		{"a file that was cut short", func(t *testing.T, path string) { must(t, os.Truncate(path, 3*4096+100)) }, "is damaged ("},
		{"another program's database", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			edit(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("meta")); return err })
		}, "is another program's database"},
		{"a newer version's file", func(t *testing.T, path string) { edit(t, path, schema("3")) }, `is damaged (its schema is "3")`},
		{"a file of no version", func(t *testing.T, path string) { edit(t, path, schema("\x1b[2J")) }, `is damaged (its schema is "\x1b[2J")`},
		{"a file without events", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("events")) })
		}, "is damaged (it has no events)"},
		{"a file with one event less", func(t *testing.T, path string) { edit(t, path, first("events")) }, " events, want "},
		{"a file with one blob less", func(t *testing.T, path string) { edit(t, path, first("blobs")) }, "its records do not match their count and checksum"},
		{"a record in the place of another", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte("blobs"))
				one, _ := b.Cursor().First()
				_, other := b.Cursor().Last()
				return b.Put(one, bytes.Clone(other))
			})
		}, "a record does not match its checksum"},
		{"a record of no target", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("blobs")).Put([]byte("x"), []byte("y")) })
		}, "a record has the wrong form"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := file(t)
			write(t, path, released(t, "schema2"))
			tt.spoil(t, path)
			_, err := state.Open(path)
			if err == nil {
				t.Fatal("it was opened")
			}
			text := err.Error()
			if !strings.HasPrefix(text, "state file "+path+" ") || !strings.Contains(text, tt.want) || !strings.Contains(text, "--state-reset") || strings.Contains(text, "\n") {
				t.Errorf("the error is %q, want %q in it", text, tt.want)
			}
			aside, err := state.ResetFile(path)
			must(t, err)
			if _, err := os.Stat(aside); err != nil {
				t.Error(err)
			}
			scan(t, open(t, path), kms, 199)
		})
	}
}

// TestAnOldFileThatIsHeld is open in a process of the release that wrote it.
func TestAnOldFileThatIsHeld(t *testing.T) {
	path := file(t)
	write(t, path, released(t, "schema2"))
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	_, opening := state.Open(path)
	_, viewing := state.View(path)
	_, resetting := state.ResetFile(path)
	must(t, db.Close())
	for _, err := range []error{opening, viewing, resetting} {
		if _, held := errors.AsType[*state.HeldError](err); !held {
			t.Errorf("the error is %v", err)
		}
	}
	open(t, path)
}

// TestPagesOfNonsense flips bits of an old file outside its two meta pages, which are redundant. The file is
// refused, or the bit was unused.
func TestPagesOfNonsense(t *testing.T) {
	b := released(t, "schema2")
	path := file(t)
	write(t, path, b)
	want := read(view(t, path))
	refused := 0
	flip := func(at, bit int) {
		spoilt := slices.Clone(b)
		spoilt[at] ^= 1 << bit
		write(t, path, spoilt)
		s, err := state.View(path)
		if err != nil {
			refused++
			if len(err.Error()) > 1000 {
				t.Errorf("byte %d: an error of %d bytes", at, len(err.Error()))
			}
		} else if diff := differ(want, read(s)); diff != "" {
			t.Fatalf("byte %d was believed: %s", at, diff)
		}
	}
	for page := 2; page < len(b)/4096; page++ {
		for range 20 {
			flip(page*4096+rand.IntN(128), rand.IntN(8))
		}
		for bit := range 8 {
			flip(page*4096+10, bit) // how many records it has
		}
	}
	t.Logf("%d spoilt files were refused", refused)
}
