package consensus_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

var exhaustive = flag.Bool("exhaustive", false, "change the documents at every byte, which takes an hour")

// changes calls each with b changed at one byte: deleted, doubled, or another one.
func changes(b []byte, at int, each func([]byte)) {
	each(slices.Delete(bytes.Clone(b), at, at+1))
	each(slices.Insert(bytes.Clone(b), at, b[at]))
	for _, c := range []byte{b[at] ^ 0x20, b[at] ^ 1, '"', ' '} {
		if c != b[at] {
			changed := bytes.Clone(b)
			changed[at] = c
			each(changed)
		}
	}
}

// taken applies a document and returns a Store or an error.
type taken func(document []byte) (*consensus.Store, error)

// everyChange checks that a changed document is refused or finalizes the same block as the original.
func everyChange(t *testing.T, document []byte, samples int, take taken) {
	t.Helper()
	s, err := take(document)
	if err != nil {
		t.Fatal(err)
	}
	want := s.Finalized()
	positions := rand.New(rand.NewPCG(1, 2)).Perm(len(document))
	if !*exhaustive {
		positions = positions[:min(samples, len(positions))]
	}
	var accepted, refused int
	var both sync.WaitGroup
	var mu sync.Mutex
	for part := range 2 {
		both.Go(func() {
			for i := part; i < len(positions); i += 2 {
				changes(document, positions[i], func(changed []byte) {
					s, err := take(changed)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil:
						refused++
						fit.Error(t, err, 1000)
					case s.Finalized() != want:
						t.Errorf("changed at byte %d, it finalizes %+v", positions[i], s.Finalized())
					default:
						accepted++
					}
				})
			}
		})
	}
	both.Wait()
	t.Logf("%d changed documents were refused, %d said the same", refused, accepted)
	if refused < 9*accepted {
		t.Error("that is not what changes make of a document")
	}
}

func later(r *recording) time.Time { return r.now.Add(time.Hour) }

func (r *recording) takeBootstrap(b []byte) (*consensus.Store, error) {
	return consensus.Bootstrap(r.network, r.checkpoint, b, later(r))
}

// takeOn applies documents to copies of a Store; on error it checks that the Store is unchanged.
func takeOn(s consensus.Store, apply func(*consensus.Store, []byte) error) taken {
	return func(b []byte) (*consensus.Store, error) {
		c := s
		err := apply(&c, b)
		if err != nil && c != s {
			return nil, fmt.Errorf("the Store changed (%w)", err)
		}
		return &c, err
	}
}

func (r *recording) takeUpdate(t testing.TB) taken {
	return takeOn(*r.start(t), func(s *consensus.Store, b []byte) error { return s.Update(b, later(r)) })
}

func (r *recording) takeFinality(t testing.TB) taken {
	s := r.start(t)
	for _, update := range r.updates[:2] {
		if err := s.Update(update, r.now); err != nil {
			t.Fatal(err)
		}
	}
	return takeOn(*s, func(s *consensus.Store, b []byte) error { return s.Finality(b, later(r)) })
}

func TestChangedBootstraps(t *testing.T) {
	r := devnet(t)
	everyChange(t, r.bootstrap, 100, r.takeBootstrap)
}

func TestChangedUpdates(t *testing.T) {
	r := devnet(t)
	everyChange(t, r.updates[0], 100, r.takeUpdate(t))
}

func TestChangedFinalityUpdates(t *testing.T) {
	r := devnet(t)
	everyChange(t, r.finality, 1000, r.takeFinality(t))
}

// TestHugeDocuments checks that documents over MaxDocument are refused unread.
func TestHugeDocuments(t *testing.T) {
	r := devnet(t)
	pad := bytes.Repeat([]byte(" "), consensus.MaxDocument-len(r.finality))
	take := r.takeFinality(t)
	if _, err := take(append(r.finality, pad...)); err != nil {
		t.Errorf("as large as it may be: %v", err)
	}
	_, err := take(append(append(r.finality, pad...), ' '))
	refused(t, err, "more than 256 KiB")
}

func FuzzBootstrap(f *testing.F) {
	r := devnet(f)
	f.Add(r.bootstrap)
	f.Add(devnetForks(f).bootstrap)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzed(t, b, r.takeBootstrap) })
}

func FuzzUpdate(f *testing.F) {
	r := devnet(f)
	for _, b := range slices.Concat(r.updates, devnetForks(f).updates) {
		f.Add(b)
	}
	take := r.takeUpdate(f)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzed(t, b, take) })
}

func FuzzUpdates(f *testing.F) {
	f.Add(readFile(f, "testdata/devnet/updates.json"))
	f.Add([]byte(`[{},{"data":[]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		documents, err := consensus.SplitUpdates(b)
		if err != nil {
			fit.Error(t, err, 1000)
		}
		for _, d := range documents {
			if !bytes.Contains(b, d) {
				t.Errorf("%q is not of the answer", d)
			}
		}
	})
}

func FuzzFinality(f *testing.F) {
	r := devnet(f)
	f.Add(r.finality)
	f.Add(devnetForks(f).finality)
	take := r.takeFinality(f)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzed(t, b, take) })
}

// fuzzed checks that no document makes a Store leave the recorded chain.
func fuzzed(t *testing.T, b []byte, take taken) {
	s, err := take(b)
	if err != nil {
		fit.Error(t, err, 1000)
		return
	}
	if slot := s.Finalized().Slot; !slices.Contains([]uint64{24, 48, 78}, slot) {
		t.Errorf("slot %d is final", slot)
	}
}

func BenchmarkBootstrap(b *testing.B) {
	r := devnet(b)
	for b.Loop() {
		r.start(b)
	}
}

func BenchmarkUpdate(b *testing.B) {
	r := devnet(b)
	take := r.takeUpdate(b)
	for b.Loop() {
		if _, err := take(r.updates[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFinality(b *testing.B) {
	r := devnet(b)
	take := r.takeFinality(b)
	for b.Loop() {
		if _, err := take(r.finality); err != nil {
			b.Fatal(err)
		}
	}
}
