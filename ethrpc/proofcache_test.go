package ethrpc_test

import (
	"encoding/json"
	"math/big"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// asked counts the calls to a proxy.
type asked struct{ slots, calls atomic.Int64 }

func (w *world) count() *asked {
	n := &asked{}
	w.Proxy.Watch(func(c rpcfault.Call) {
		switch c.Method {
		case "eth_getProof":
			var keys []common.Hash
			if json.Unmarshal(c.Params[1], &keys) == nil {
				n.slots.Add(int64(len(keys)))
			}
		case "eth_call":
			n.calls.Add(1)
		}
	})
	return n
}

func TestOneChangeAmongManyIsAllThatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	const many = 600
	var images []common.Hash
	for i := range many {
		images = append(images, common.BigToHash(big.NewInt(int64(i+1000))))
	}
	if err := w.KMS.Seed(t.Context(), nil, images); err != nil {
		t.Fatal(err)
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for _, row := range []struct {
		sentence     string
		change       func() error
		slots, calls int64 // at most; one call is the probe
		allowed      bool  // the image that changes
	}{
		{"the first time", func() error { return nil }, 2 * many, many + 10, true},
		{"an image was removed", func() error { return w.KMS.RemoveImage(t.Context(), images[7]) }, 80, 2, false},
		{"it was added again", func() error { return w.KMS.AllowImage(t.Context(), images[7]) }, 80, 2, true},
		{"an id that is not asked for was added", func() error { return w.KMS.AllowImage(t.Context(), common.Hash{7: 7}) }, 80, 1, true},
		{"the owner is about to change", func() error {
			_, err := w.KMS.Send(t.Context(), "transferOwnership", common.Address{9})
			return err
		}, 80, 1, true},
	} {
		if err := row.change(); err != nil {
			t.Fatal(err)
		}
		n := w.count()
		s, err := look(t.Context(), c, w.request(images...))
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		t.Logf("%s: %d slots, %d calls", row.sentence, n.slots.Load(), n.calls.Load())
		if n.slots.Load() > row.slots || n.calls.Load() > row.calls {
			t.Errorf("%s: %d slots were proven and %d calls made, want at most %d and %d",
				row.sentence, n.slots.Load(), n.calls.Load(), row.slots, row.calls)
		}
		w.truth(t, s)
		for i, id := range images {
			if a := s.OSImages[id]; a.Err != nil || !s.Proven || a.Allowed != (i != 7 || row.allowed) {
				t.Errorf("%s: image %d is %+v", row.sentence, i, a)
			}
		}
	}
}

func TestWhatIsNotToBeCachedIsForgotten(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	aside := request{
		ReadOptions: ethrpc.ReadOptions{NoCache: true},
		queries:     []ethrpc.Query{{Contract: w.KMS.Address(), Devices: []common.Hash{device}}},
	}
	for i, row := range []struct {
		req  request
		want int
	}{{w.request(), 3}, {aside, 1}, {w.request(), 1}} {
		before := w.Proxy.Requests()
		if _, err := look(t.Context(), c, row.req); err != nil {
			t.Fatal(err)
		}
		if got := w.Proxy.Requests() - before; got != row.want {
			t.Errorf("reading %d: %d round trips, want %d", i, got, row.want)
		}
	}
}

func TestTheSameBlockIsNotProvenTwice(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	first, err := look(t.Context(), c, w.request())
	if err != nil {
		t.Fatal(err)
	}
	n := w.count()
	req := w.request(common.Hash{5})
	req.Tags = []ethrpc.BlockTag{ethrpc.AtHash(first.at.Block.Hash)}
	s, err := look(t.Context(), c, req)
	if err != nil {
		t.Fatal(err)
	}
	w.truth(t, s)
	if n.slots.Load() != 0 || n.calls.Load() != 2 {
		t.Errorf("%d slots and %d calls for one more id with a complete storage, want none and two: the probe and the new call", n.slots.Load(), n.calls.Load())
	}
}

// TestAnswersOfAnEarlierQueryExplainNothing checks that a slot is unexplained once no query asks for the id that explained it.
func TestAnswersOfAnEarlierQueryExplainNothing(t *testing.T) {
	w := newWorld(t)
	hidden := common.Hash{31: 7}
	if err := w.KMS.AllowImage(t.Context(), hidden); err != nil {
		t.Fatal(err)
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for i, row := range []struct {
		req      request
		complete bool
	}{{w.request(hidden), true}, {w.request(), false}, {w.request(), false}, {w.request(hidden), true}} {
		s, err := look(t.Context(), c, row.req)
		if err != nil {
			t.Fatal(err)
		}
		if s.Storage.Complete != row.complete || s.OSImages[hidden].Allowed != row.complete {
			t.Errorf("reading %d: %+v, the image is %+v", i, s.Storage, s.OSImages[hidden])
		}
	}
}
