package l1_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestRoundsOfAReading: a later one asks at once for all that the one before read.
func TestRoundsOfAReading(t *testing.T) {
	w := newWorld(t, startL2(t))
	c := client(t, l1ID, w.l1.URL)
	var old *ethrpc.ProvenCalls
	third := common.Address{}
	for _, row := range []struct {
		sentence string
		change   func()
		rounds   int // beside the pin
	}{
		{"the first", func() {}, 16},
		{"nothing changed", func() { w.l1.Chain.Commit() }, 1},
		{"a game came", func() { third = w.propose(t, w.proposal(t, 60, w.second)) }, 4},
		{"a game was won", func() { must(t, w.rollup.SetGame(t.Context(), third, 2, 1, 0)) }, 1},
	} {
		row.change()
		requests, bytes := w.l1.Proxy.Requests(), w.l1.Proxy.Bytes()
		calls, _ := w.calls(t, c, old)
		if _, err := l1.Read(t.Context(), calls, w.chain(), audited); err != nil {
			t.Fatal(err)
		}
		rounds := w.l1.Proxy.Requests() - requests - 1
		t.Logf("%s: %d rounds, %d bytes", row.sentence, rounds, w.l1.Proxy.Bytes()-bytes)
		if rounds != row.rounds {
			t.Errorf("%s: %d rounds, want %d", row.sentence, rounds, row.rounds)
		}
		old = calls
	}
}

var _ = types.Header{}
var _ = cmp.Diff
var _ = testchain.GameType
