package history_test

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/history"
)

const page = 4096

// sample returns a file with everything in it: several levels of pages, free pages, deleted events and blobs.
func sample(t testing.TB) []byte {
	t.Helper()
	path := file(t)
	s := open(t, path)
	for to := uint64(110); to < 200; to += 30 {
		scan(t, s, kms, to)
		scan(t, s, other, to)
	}
	if err := s.Rewind(other, 120, blockHash(120)); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(kms, "audit", make([]byte, page)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFlippedBitsAreNoticed flips one bit of every 23rd byte and of each where a page begins, and every bit of what says
// how many keys a page has. The file is refused, or it was a bit that nobody needs.
func TestFlippedBitsAreNoticed(t *testing.T) {
	b := sample(t)
	path := file(t)
	write(t, path, b)
	s := open(t, path)
	want := read(s)
	s.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(at int, c byte) {
		if _, err := f.WriteAt([]byte{c}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for at := range b {
		if at%page >= 96 && at%23 != 0 {
			continue
		}
		bits := []int{rand.IntN(8)}
		if at%page/2 == 5 {
			bits = []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		for _, bit := range bits {
			put(at, b[at]^1<<bit)
			s, err := history.Open(path)
			if err == nil {
				if diff := differ(want, read(s)); diff != "" {
					t.Fatalf("byte %d was believed: %s", at, diff)
				}
				s.Close()
			} else if refused++; !strings.HasPrefix(err.Error(), "state file "+path) || !strings.Contains(err.Error(), "--state-reset") {
				t.Fatalf("byte %d: %v", at, err)
			}
			put(at, b[at])
		}
	}
	if refused < 500 {
		t.Errorf("%d flipped bits were noticed", refused)
	}
}

func TestCutFilesAreRefused(t *testing.T) {
	b := sample(t)
	path := file(t)
	used := int(binary.NativeEndian.Uint64(b[16+40:])) // pages, by the first meta page
	used = max(used, int(binary.NativeEndian.Uint64(b[page+16+40:])))
	for n := 1; n < used*page; n += 1000 {
		write(t, path, b[:n])
		if _, err := history.Open(path); err == nil || !strings.Contains(err.Error(), "is damaged (it is cut short") {
			t.Errorf("%d of %d bytes: %v", n, used*page, err)
		}
	}
}

// sign makes the checksums of both meta pages right, so that what is damaged is looked at.
func sign(b []byte) {
	for _, at := range []int{0, page} {
		if len(b) >= at+80 {
			h := fnv.New64a()
			h.Write(b[at+16 : at+72])
			binary.NativeEndian.PutUint64(b[at+72:], h.Sum64())
		}
	}
}

// use does with a file what a process may; only a refusal or an error may come of it.
func use(t *testing.T, path string) {
	s, err := history.Open(path)
	if err != nil {
		if len(err.Error()) > 2000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		return
	}
	for _, of := range append(s.Targets(), kms) {
		p, _ := s.Progress(of)
		err := s.Append(of, p.Next, p.Next, blockHash(p.Next), nil)
		if err == nil {
			s.Rewind(of, p.From, blockHash(1))
			s.Save(of, "audit", []byte("{}"))
			s.Reset(of)
		}
	}
	s.Close()
	if _, err := history.ResetFile(path); err != nil {
		t.Error(err) // bbolt broke, and holds the file still
	}
}

// TestPagesOfNonsense spoils several bytes where bbolt itself keeps numbers, under right checksums.
func TestPagesOfNonsense(t *testing.T) {
	b := sample(t)
	path := filepath.Join(t.TempDir(), "state.db")
	for range 1000 {
		spoilt := bytes.Clone(b)
		for range 1 + rand.IntN(4) {
			at := rand.IntN(len(b)/page)*page + rand.IntN(128)
			if rand.IntN(2) == 0 {
				spoilt[at] = byte(rand.IntN(8))
			} else {
				copy(spoilt[at:], b[rand.IntN(len(b)-8):][:8])
			}
		}
		sign(spoilt)
		write(t, path, spoilt)
		use(t, path)
	}
}

// FuzzOpen opens any bytes, or a file of which some bytes were replaced: a page, two for the place in it, and the value.
func FuzzOpen(f *testing.F) {
	whole := sample(f)
	f.Add([]byte{}, false)
	f.Add([]byte{0, 0, 48, 9, 1, 0, 48, 8}, false)
	f.Add([]byte{2, 0, 16, 5, 3, 0, 8, 1, 4, 0, 10, 255}, false)
	f.Add([]byte("chains: []\n"), true)
	f.Add(whole[:page], true)
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		if !raw {
			edits := b
			b = bytes.Clone(whole)
			for e := range slices.Chunk(edits, 4) {
				if len(e) == 4 {
					b[(int(e[0])*page+int(e[1])<<8+int(e[2]))%len(b)] = e[3]
				}
			}
			sign(b)
		}
		path := file(t)
		write(t, path, b)
		use(t, path)
	})
}
