package ethrpc_test

import (
	"context"
	"encoding/json"
	"math/big"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
)

// asked counts what a proxy is asked for.
type asked struct{ slots, calls atomic.Int64 }

func (w *world) count() *asked {
	n := &asked{}
	w.proxy.Watch(func(c rpcfault.Call) {
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
	var more []ethrpc.Ask
	for i := range many {
		images = append(images, common.BigToHash(big.NewInt(int64(i+1000))))
		more = append(more, ethrpc.Ask{Contract: w.kms.Address(), Getter: ethrpc.AllowedOSImage, ID: images[i]})
	}
	if err := w.kms.Seed(t.Context(), nil, images); err != nil {
		t.Fatal(err)
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.url)
	for _, row := range []struct {
		sentence     string
		change       func() error
		slots, calls int64 // at most; one call is the probe
		allowed      bool  // the image that changes
	}{
		{"the first time", func() error { return nil }, 2 * many, many + 10, true},
		{"an image was removed", func() error { return w.kms.RemoveImage(t.Context(), images[7]) }, 80, 2, false},
		{"it was added again", func() error { return w.kms.AllowImage(t.Context(), images[7]) }, 80, 2, true},
		{"an id that is not asked for was added", func() error { return w.kms.AllowImage(t.Context(), common.Hash{7: 7}) }, 80, 1, true},
		{"the owner is about to change", func() error {
			_, err := w.kms.Send(t.Context(), "transferOwnership", common.Address{9})
			return err
		}, 80, 1, true},
	} {
		if err := row.change(); err != nil {
			t.Fatal(err)
		}
		n := w.count()
		s, err := c.Read(t.Context(), w.whole(more...))
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		t.Logf("%s: %d slots, %d calls", row.sentence, n.slots.Load(), n.calls.Load())
		if n.slots.Load() > row.slots || n.calls.Load() > row.calls {
			t.Errorf("%s: %d slots were proven and %d calls made, want at most %d and %d",
				row.sentence, n.slots.Load(), n.calls.Load(), row.slots, row.calls)
		}
		w.truth(t, s)
		for i, ask := range more {
			if a := s.Answers[ask]; a.Err != nil || !a.Proven || a.Allowed != (i != 7 || row.allowed) {
				t.Errorf("%s: image %d is %+v", row.sentence, i, a)
			}
		}
	}
}

func TestWhatIsAskedAsideIsForgotten(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.url)
	aside := ethrpc.Request{Aside: true, Questions: func(context.Context, ethrpc.Block) ethrpc.Questions {
		return ethrpc.Questions{Asks: w.asks()[:2]}
	}}
	for i, row := range []struct {
		req  ethrpc.Request
		want int
	}{{w.whole(), 3}, {aside, 1}, {w.whole(), 1}} {
		before := w.proxy.Requests()
		if _, err := c.Read(t.Context(), row.req); err != nil {
			t.Fatal(err)
		}
		if got := w.proxy.Requests() - before; got != row.want {
			t.Errorf("reading %d: %d round trips, want %d", i, got, row.want)
		}
	}
}

func TestTheSameBlockIsNotProvenTwice(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.url)
	first, err := c.Read(t.Context(), w.whole())
	if err != nil {
		t.Fatal(err)
	}
	n := w.count()
	req := w.whole(ethrpc.Ask{Contract: w.kms.Address(), Getter: ethrpc.AllowedDevice, ID: common.Hash{5}})
	req.Policies = []ethrpc.Policy{ethrpc.AtHash(first.Block.Hash)}
	s, err := c.Read(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.truth(t, s)
	if n.slots.Load() != 0 || n.calls.Load() != 2 {
		t.Errorf("%d slots and %d calls for one more question about a storage that is known in full, want none and two: the probe and the new one", n.slots.Load(), n.calls.Load())
	}
}

// TestRevision: it is the same only while everything is.
func TestRevision(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyAuto, 1, w.url)
	var last uint64
	for _, row := range []struct {
		sentence string
		change   func() error
		req      ethrpc.Request
		same     bool
	}{
		{"at first", func() error { return nil }, w.whole(), false},
		{"a block came", func() error { w.chain.Commit(); return nil }, w.whole(), true},
		{"more is asked", func() error { return nil }, w.whole(ethrpc.Ask{Contract: w.kms.Address(), Getter: ethrpc.AllowedDevice, ID: common.Hash{5}}), false},
		{"less is asked", func() error { return nil }, w.whole(), false},
		{"an entry changed", func() error { return w.kms.RemoveImage(t.Context(), image) }, w.whole(), false},
	} {
		if err := row.change(); err != nil {
			t.Fatal(err)
		}
		s, err := c.Read(t.Context(), row.req)
		if err != nil {
			t.Fatal(err)
		}
		if s.Revision == 0 || s.Revision == last != row.same {
			t.Errorf("%s: revision %d after %d", row.sentence, s.Revision, last)
		}
		last = s.Revision
	}
	w.chain.Commit()
	w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available"))
	if s, err := c.Read(t.Context(), w.whole()); err != nil || s.Revision != 0 {
		t.Errorf("what is not proven has revision %d, %v", s.Revision, err)
	}
}

// TestRevisionFollowsTheSlotsThatAreNamed: one that is named no more may be all that explained something.
func TestRevisionFollowsTheSlotsThatAreNamed(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.url)
	named := func(slots ...common.Hash) ethrpc.Questions {
		return ethrpc.Questions{Asks: w.asks(), Slots: map[common.Address][]common.Hash{w.kms.Address(): slots}}
	}
	two, one := named(common.Hash{1}, common.Hash{2}), named(common.Hash{2})
	var last uint64
	for i, row := range []struct {
		q    ethrpc.Questions
		same bool
	}{{two, false}, {two, true}, {named(common.Hash{2}, common.Hash{1}), true}, {one, false}, {one, true}, {two, false}} {
		s, err := c.Read(t.Context(), ethrpc.Request{Questions: func(context.Context, ethrpc.Block) ethrpc.Questions { return row.q }})
		if err != nil {
			t.Fatal(err)
		}
		if s.Revision == 0 || s.Revision == last != row.same {
			t.Errorf("reading %d: revision %d after %d", i, s.Revision, last)
		}
		last = s.Revision
	}
}
