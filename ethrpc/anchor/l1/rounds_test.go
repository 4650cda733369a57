package l1_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var sameError = cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error()) })

func (w *world) read(t *testing.T, caller l1.Caller) *l1.Reading {
	t.Helper()
	r, err := l1.Read(t.Context(), caller, w.chain(), audited)
	must(t, err)
	return r
}

// TestRoundsOfAReading checks that a Read prefetches what the earlier one read, and gives the same result as without it.
func TestRoundsOfAReading(t *testing.T) {
	w := newWorld(t, startL2(t))
	c := client(t, l1ID, w.l1.URL)
	var old *ethrpc.ProvenCalls
	third := common.Address{}
	for _, row := range []struct {
		sentence string
		change   func()
		rounds   int // without the pin
		bytes    int // of all bodies, at most
	}{
		{"the first", func() {}, 16, 100_000},
		{"the same block", func() {}, 0, 5_000},
		{"nothing changed", func() { w.l1.Chain.Commit() }, 1, 45_000},
		{"a game came", func() { third = w.third(t, func(*testchain.Proposal) {}) }, 4, 60_000},
		{"a game was won", func() { w.setGame(t, third, 2, 1, 0) }, 1, 55_000},
		{"a contract was upgraded", func() { w.alter(t, testchain.RollupPortal, "none()", nil) }, 2, 60_000},
	} {
		row.change()
		requests, bytes := w.l1.Proxy.Requests(), w.l1.Proxy.Bytes()
		calls, _ := w.calls(t, c, old)
		got := w.read(t, calls)
		rounds, size := w.l1.Proxy.Requests()-requests-1, w.l1.Proxy.Bytes()-bytes
		t.Logf("%s: %d rounds, %d bytes, a witness of %d", row.sentence, rounds, size, witnessSize(calls.Witness()))
		if rounds != row.rounds || size > row.bytes {
			t.Errorf("%s: %d rounds and %d bytes, want %d and at most %d", row.sentence, rounds, size, row.rounds, row.bytes)
		}
		alone, _ := w.calls(t, client(t, l1ID, w.l1.Chain.URL()), nil)
		if diff := cmp.Diff(w.read(t, alone), got, sameError); diff != "" {
			t.Errorf("%s: without and with the reading before (-want +got):\n%s", row.sentence, diff)
		}
		old = calls
	}
}

func witnessSize(w *ethrpc.Witness) (n int) {
	for _, list := range [][][]byte{{w.Header}, w.Nodes, w.Codes} {
		for _, b := range list {
			n += len(b)
		}
	}
	return n
}

// TestAWitnessProvesTheSame checks that a witness gives the same Reading, and that an incomplete one gives an error.
func TestAWitnessProvesTheSame(t *testing.T) {
	w := newWorld(t, startL2(t))
	won(t, w)
	w.third(t, func(p *testchain.Proposal) { p.Roots = p.Roots[1:] })
	first, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	w.read(t, first)
	w.l1.Chain.Commit()
	calls, at := w.calls(t, client(t, l1ID, w.l1.URL), first) // the witness must include what the first one proved
	want := w.read(t, calls)
	witness := *calls.Witness()

	offline, block, err := ethrpc.ProveCalls(l1ID, at.Block.Hash, witness)
	must(t, err)
	if diff := cmp.Diff(want, w.read(t, offline), sameError); diff != "" || block != at.Block {
		t.Errorf("it proves block %v, not %v, and (-want +got):\n%s", block, at.Block, diff)
	}
	if _, _, err := ethrpc.ProveCalls(l1ID, common.Hash{1}, witness); err == nil {
		t.Error("it proves any block")
	}
	needed := 0
	for i := range witness.Nodes {
		less := witness
		less.Nodes = append(append([][]byte{}, witness.Nodes[:i]...), witness.Nodes[i+1:]...)
		needed += w.lacks(t, at, less, want)
	}
	for i := range witness.Codes {
		less := witness
		less.Codes = append(append([][]byte{}, witness.Codes[:i]...), witness.Codes[i+1:]...)
		needed += w.lacks(t, at, less, want)
	}
	if needed < len(witness.Codes)+len(witness.Nodes)/2 {
		t.Errorf("of %d nodes and %d codes only %d are needed", len(witness.Nodes), len(witness.Codes), needed)
	}
}

// lacks reads from a witness that may lack something, and returns 1 if it does.
func (w *world) lacks(t *testing.T, at *ethrpc.Pinned, witness ethrpc.Witness, want *l1.Reading) int {
	t.Helper()
	offline, _, err := ethrpc.ProveCalls(l1ID, at.Block.Hash, witness)
	must(t, err)
	got, err := l1.Read(t.Context(), offline, w.chain(), audited)
	if err == nil && !cmp.Equal(want, got, sameError) {
		t.Errorf("a witness that lacks something proves something else: %s", cmp.Diff(want, got, sameError))
	}
	if err != nil && !strings.Contains(err.Error(), "lacks state") {
		t.Errorf("%v, want that it lacks state", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

// TestAProviderThatFailsIsNoAnswer checks that the next provider is asked, and that a failure of all is an error, never a lower Trust.
func TestAProviderThatFailsIsNoAnswer(t *testing.T) {
	w := newWorld(t, startL2(t))
	refuse := func(method string) rpcfault.Fault {
		return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == method {
				a.Result, a.Error = nil, &rpcfault.Error{Code: -32601, Message: "not served"}
			}
		}}
	}
	want, _ := w.calls(t, client(t, l1ID, w.l1.Chain.URL()), nil)
	for name, fault := range map[string]rpcfault.Fault{
		"it refuses proofs": refuse("eth_getProof"),
		"it refuses code":   refuse("eth_getCode"),
		"it fails later":    {When: rpcfault.When{From: 6}, Reply: refuse("eth_getProof").Reply},
		"its proofs are of something else": {Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			a.Result = []byte(strings.ReplaceAll(string(a.Result), `"proof":["0xf8`, `"proof":["0xf9`))
		}},
		"its code is of something else": {Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getCode" {
				a.Result = []byte(`"0x00"`)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w.l1.Proxy.Set(fault)
			both, _ := w.calls(t, client(t, l1ID, w.l1.URL, w.l1.Chain.URL()), nil)
			if diff := cmp.Diff(w.read(t, want), w.read(t, both), sameError); diff != "" {
				t.Errorf("with another provider (-want +got):\n%s", diff)
			}
			w.l1.Proxy.Set(fault)
			alone, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
			r, err := l1.Read(t.Context(), alone, w.chain(), audited)
			if _, ok := errors.AsType[*ethrpc.ReadError](err); !ok || r != nil {
				t.Errorf("alone: %v, %v, want a ReadError", r, err)
			}
		})
	}
	w.l1.Proxy.Set(rpcfault.Fault{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	if _, err := l1.Read(ctx, calls, w.chain(), audited); !errors.Is(err, context.Canceled) {
		t.Errorf("when nobody waits: %v", err)
	}
}

// TestRoundsOfALongReading reads the games of a whole day. It must stay within the limits of ProvenCalls.
func TestRoundsOfALongReading(t *testing.T) {
	w := newWorld(t, startL2(t))
	parent := w.second
	for i := range uint64(78) { // one after the other, of one block each
		parent = w.propose(t, testchain.Proposal{Parent: parent, Block: 61 + i, Roots: []common.Hash{{byte(i)}}})
	}
	requests, bytes := w.l1.Proxy.Requests(), w.l1.Proxy.Bytes()
	calls, _ := w.calls(t, client(t, l1ID, w.l1.URL), nil)
	r, err := l1.Read(t.Context(), calls, w.chain(), 1)
	must(t, err)
	counted := 0
	for _, g := range r.Games {
		if g.Err == nil {
			counted++
		}
	}
	rounds, size := w.l1.Proxy.Requests()-requests-1, w.l1.Proxy.Bytes()-bytes
	t.Logf("%d rounds, %d bytes, a witness of %d", rounds, size, witnessSize(calls.Witness()))
	if counted != 80 || rounds > 40 || size > 2_000_000 {
		t.Errorf("%d games count, after %d rounds and %d bytes", counted, rounds, size)
	}
}
