package observe_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// inventsTheHead answers queries about the newest block from another chain.
func (w *anchoredWorld) inventsTheHead() http.Handler {
	liar := w.invented(600, dev1, dev2)
	var lies atomic.Bool
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		must(w.t, err)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if asksFor := func(tag string) bool { return bytes.Contains(body, []byte(`"`+tag+`"`)) }; asksFor("finalized") {
			lies.Store(false)
		} else if asksFor("latest") {
			lies.Store(true)
		}
		if lies.Load() {
			liar.ServeHTTP(rw, r)
			return
		}
		w.proxy.ServeHTTP(rw, r)
	})
}

// later adds 40 blocks, made after all audits so far, and finalizes what the node calls finalized.
func (w *anchoredWorld) later() {
	w.t.Helper()
	must(w.t, w.chain.AdjustTime(2000*time.Second))
	observe.SetClock(w.t, 3000*time.Second)
	w.mine(40)
	w.finalize(w.header("finalized").Number.Uint64())
}

// eitherWay runs a test without and with anchor.required.
func eitherWay(t *testing.T, test func(t *testing.T, required bool, meanwhile audit.Verdict)) {
	for required, meanwhile := range map[bool]audit.Verdict{false: audit.Consistent, true: audit.Unknown} {
		t.Run(fmt.Sprintf("required: %t", required), func(t *testing.T) { test(t, required, meanwhile) })
	}
}

// TestAnInventedHeadDelaysLittle: what is pending must be at the first block that is signed and made since then.
func TestAnInventedHeadDelaysLittle(t *testing.T) {
	eitherWay(t, func(t *testing.T, required bool, meanwhile audit.Verdict) {
		w := newAnchoredWorld(t)
		w.finalize(64)
		w.world.intent.PendingMax, w.world.intent.AnchorMust = 10*time.Hour, required
		w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
		w.rpc = []string{w.serve(w.inventsTheHead())}
		a := w.auditor()
		for range 2 {
			if r := a.says(meanwhile, ""); entry(t, r, dev2.Hex()).Reason != audit.ReasonHeadAgrees {
				t.Error(text(t, r))
			}
		}
		w.later()
		for range 2 {
			a.says(audit.Drift, "claim_allowed_chain_denied")
		}
	})
}

// TestAChangeThatIsNotFinalYet becomes a match without a finding.
func TestAChangeThatIsNotFinalYet(t *testing.T) {
	eitherWay(t, func(t *testing.T, required bool, meanwhile audit.Verdict) {
		w := newAnchoredWorld(t)
		w.finalize(64)
		w.world.intent.PendingMax, w.world.intent.AnchorMust = 10*time.Hour, required
		must(t, w.kms.AllowDevice(t.Context(), dev2))
		w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
		a := w.auditor()
		a.says(meanwhile, "")
		w.mine(3)
		w.finalize(66) // newer, and made before
		a.says(meanwhile, "")
		w.later()
		a.says(audit.Consistent, "")
	})
}

// TestNobodyIsSaidToLackWhatAnotherOneServed: the provider that pinned its own block is asked for the finalized one before those that
// failed to pin any.
func TestNobodyIsSaidToLackWhatAnotherOneServed(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(40) // the nodes say 64
	w.rpc = append(w.rpc, w.serve(rpcfault.New(w.chain.URL())))
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == `"finalized"` {
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32603, Message: "Internal error"}
		}
	}})
	r := w.says(audit.Consistent, "")
	if said := text(t, r); trustOf(r) != audit.TrustConsensus || !strings.Contains(said, "first") || strings.Contains(said, "lacks") {
		t.Error(said)
	}
}

// TestACheckpointOfAnotherChain takes the place of what was verified before, however new that is: a devnet that was reset begins
// anew at slot 0.
func TestACheckpointOfAnotherChain(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(64)
	remembered := func(a *auditor) *audit.BeaconRoot {
		t.Helper()
		if r := a.says(audit.Consistent, ""); trustOf(r) != audit.TrustConsensus {
			t.Error(text(t, r))
		}
		return a.prior["test"].Finalized
	}
	w.world.intent.Checkpoint = w.opt.Checkpoint
	first := w.auditor()
	before := remembered(first)
	w.beacon = beacon.New(beacon.Options{GenesisTime: w.beacon.GenesisTime + 20})
	network, err := consensus.NetworkFromSpec(w.beacon.Spec())
	must(t, err)
	w.opt.Network, w.opt.Checkpoint = network, w.beacon.Finalize(w.header("0x20"))
	w.world.intent.Checkpoint = w.opt.Checkpoint
	w.finalize(64)
	second := w.auditor()
	second.prior = first.prior
	if now := remembered(second); now.Slot >= before.Slot || now.Checkpoint != w.opt.Checkpoint || before.Checkpoint == now.Checkpoint {
		t.Errorf("%+v is remembered after %+v", now, before)
	}
	older := audit.Prior{Finalized: &audit.BeaconRoot{Slot: before.Slot, Root: before.Root}}
	for checkpoint, want := range map[common.Hash][2]common.Hash{before.Checkpoint: {before.Root, before.Root}, w.opt.Checkpoint: {{}, before.Root}} {
		prior := audit.Prior{Finalized: before}
		if got := [2]common.Hash{prior.VerifiedFrom(checkpoint), older.VerifiedFrom(checkpoint)}; got != want {
			t.Errorf("from checkpoint %s, and in a state that has none: %s, want %s", checkpoint, got, want)
		}
	}
}
