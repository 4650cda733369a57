package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/events"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const chainID = 1337

var ctx = context.Background()

// world is a chain with a contract, and a state with its events.
type world struct {
	t      *testing.T
	chain  *testchain.Chain
	kms    *testchain.KMS
	proxy  *rpcfault.Proxy
	client *ethrpc.Client
	state  *state.State
	*events.Indexer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	chain, err := testchain.Start(testchain.Options{})
	must(t, err)
	t.Cleanup(func() { chain.Close() })
	w := &world{t: t, chain: chain, proxy: rpcfault.New(chain.URL())}
	w.kms, err = chain.Deploy(ctx, testchain.DeployOptions{})
	must(t, err)
	srv := httptest.NewServer(w.proxy)
	t.Cleanup(srv.Close)
	w.client, err = ethrpc.New(ethrpc.Options{ChainID: chainID, Tags: []ethrpc.BlockTag{ethrpc.Latest}, Verify: ethrpc.VerifyOff, BatchSize: 100,
		RetryDelay: time.Millisecond, Providers: []ethrpc.Provider{{Name: "node", URL: sanitize.NewSecret(srv.URL)}}})
	must(t, err)
	t.Cleanup(w.client.Close)
	w.state, err = state.Open("")
	must(t, err)
	w.start(0)
	return w
}

// start creates an Indexer from the state, as a new process does.
func (w *world) start(from uint64) {
	w.Indexer = events.New(events.Options{Chain: "base", Client: w.client, State: w.state, From: map[common.Address]uint64{w.kms.Address(): from}})
}

// allow allows a device in its own block.
func (w *world) allow(device byte) { must(w.t, w.kms.AllowDevice(ctx, common.Hash{device})) }

func (w *world) blocks(n int) {
	for range n {
		w.chain.Commit()
	}
}

// fork removes blocks and their transactions.
func (w *world) fork(blocks uint64) {
	w.t.Helper()
	base, err := w.chain.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(w.head().Number-blocks))
	must(w.t, err)
	must(w.t, w.chain.Fork(base.Hash()))
	w.chain.Rollback()
}

func (w *world) head() ethrpc.Block {
	w.t.Helper()
	h, err := w.chain.Client().HeaderByNumber(ctx, nil)
	must(w.t, err)
	return ethrpc.Block{Number: h.Number.Uint64(), Hash: h.Hash()}
}

func (w *world) update() error {
	return errors.Join(w.Update(ctx, w.kms.Address(), false, w.head()), w.Update(ctx, w.kms.Address(), true, w.head()))
}

// knows returns the known devices by their first byte.
func (w *world) knows(want ...byte) {
	w.t.Helper()
	var got []byte
	for _, d := range w.Named(w.kms.Address())[string(audit.Device)] {
		got = append(got, d[0])
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("the devices %v are known, want %v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A reorganisation takes back device 2 and lets in device 3, in a block that was read long before.
func TestAReorganisationOfAnyDepth(t *testing.T) {
	for _, tt := range []struct {
		sentence      string
		looks, behind int // updates, and blocks between them
		restarted     bool
	}{
		{"of which one look was had", 1, 100, false},
		{"in which many looks were had", 40, 3, false},
		{"before the process began", 40, 3, true},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newWorld(t)
			w.allow(1)
			must(t, w.update())
			base := w.head().Number
			w.blocks(10)
			w.allow(2)
			for range tt.looks {
				w.blocks(tt.behind)
				must(t, w.update())
			}
			w.knows(1, 2)
			w.fork(w.head().Number - base)
			w.allow(3)
			w.blocks(tt.looks*tt.behind + 20)
			if tt.restarted {
				w.start(0)
			}
			must(t, w.update())
			w.knows(1, 3)
			if p, _ := w.state.Progress(state.Target{Chain: "base", Contract: w.kms.Address()}); p.Next != w.head().Number+1 {
				t.Errorf("events are read up to block %d of %d", p.Next-1, w.head().Number)
			}
		})
	}
}

func TestAShortReorganisationReadsLittle(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		w.blocks(10)
		must(t, w.update())
	}
	w.fork(3)
	w.blocks(5)
	first := ^uint64(0)
	w.proxy.Watch(func(c rpcfault.Call) {
		var filter struct{ FromBlock string }
		if c.Method == "eth_getLogs" && json.Unmarshal(c.Params[0], &filter) == nil {
			from, _ := new(big.Int).SetString(filter.FromBlock, 0)
			first = min(first, from.Uint64())
		}
	})
	must(t, w.update())
	if read := w.head().Number - first + 1; read > 15 {
		t.Errorf("%d blocks are read anew", read)
	}
}

// A source that fails during a reorganisation loses no known ids.
func TestWhatFailsForgetsNothing(t *testing.T) {
	w := newWorld(t)
	w.allow(1)
	must(t, w.update())
	w.blocks(3)
	must(t, w.update())
	w.fork(2)
	w.blocks(4)
	asked := 0
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method != "eth_getBlockByNumber" || strings.Contains(string(c.Params[0]), "latest") {
			return
		}
		if asked++; asked > 1 { // the first tells of the reorganisation
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32005, Message: "slow down"}
		}
	}})
	if err := w.update(); err == nil || !strings.Contains(err.Error(), "slow down") {
		t.Errorf("the update ends with %v", err)
	}
	w.knows(1)
	w.proxy.Set(rpcfault.Fault{})
	must(t, w.update())
	w.knows(1)
}

func TestNamesStandUntilTheyAreReadAnew(t *testing.T) {
	w := newWorld(t)
	w.allow(1)
	must(t, w.update())
	must(t, w.Reset(w.kms.Address()))
	w.knows(1)
	w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
	if err := w.update(); err == nil {
		t.Error("logs that are refused are read")
	}
	w.knows(1)
	// What is read anew lacks it: it counts no more.
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getLogs" {
			a.Result, a.Error = json.RawMessage(`[]`), nil
		}
	}})
	must(t, w.update())
	w.knows()
}

func TestAnEarlierFromBlockIsReadFromThere(t *testing.T) {
	w := newWorld(t)
	w.allow(1)
	late := w.head().Number + 1
	w.allow(2)
	w.start(late)
	must(t, w.update())
	w.knows(2)
	w.start(late - 1)
	must(t, w.update())
	w.knows(1, 2)
	w.proxy.Watch(func(c rpcfault.Call) {
		if c.Method == "eth_getLogs" {
			t.Errorf("what is known is read again: %s", c.Params)
		}
	})
	w.start(late - 1)
	must(t, w.update())
	w.knows(1, 2)
}

// TestALongScanIsSavedOnItsWay scans in pieces: after a kill, the next process continues where the file ends.
func TestALongScanIsSavedOnItsWay(t *testing.T) {
	w := newWorld(t)
	w.allow(1)
	w.blocks(200)
	path := filepath.Join(t.TempDir(), "state")
	var err error
	w.state, err = state.Open(path)
	must(t, err)
	t.Cleanup(func() { w.state.Close() })
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var filter struct{ FromBlock, ToBlock hexutil.Uint64 }
		if c.Method == "eth_getLogs" && json.Unmarshal(c.Params[0], &filter) == nil && filter.ToBlock-filter.FromBlock >= 20 {
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32005, Message: "block range is too wide"}
		}
	}})
	saved := map[uint64]bool{}
	w.Indexer = events.New(events.Options{Chain: "base", Client: w.client, State: w.state, From: map[common.Address]uint64{w.kms.Address(): 1}, Progress: func(common.Address, uint64, uint64) {
		if s, err := state.View(path); err == nil {
			p, _ := s.Progress(state.Target{Chain: "base", Contract: w.kms.Address()})
			saved[p.Next] = true
		}
	}})
	must(t, w.update())
	if len(saved) == 0 {
		t.Error("nothing was saved before the scan had come to its end")
	}
	w.knows(1)
}

// TestWhatTheNewestGenerationsTell: who changed a list stands beside the event of the list, and each upgrade names the
// implementation.
func TestWhatTheNewestGenerationsTell(t *testing.T) {
	w := newWorld(t)
	older, err := w.chain.Client().StorageAt(ctx, w.kms.Address(), implementationSlot, nil)
	must(t, err)
	w.allow(1)
	newer, err := w.kms.Upgrade(ctx, "Kms20260531")
	must(t, err)
	w.allow(2)
	must(t, w.update())
	w.knows(1, 2)
	for device, actor := range map[byte]common.Address{1: testchain.Address("owner"), 2: {}} {
		e := w.state.LastEvents(state.Target{Chain: "base", Contract: w.kms.Address()})[state.Item{List: string(audit.Device), Key: common.Hash{device}}]
		if e == nil || !e.Added || e.Actor != actor {
			t.Errorf("device %d: %+v, want the actor %s", device, e, actor)
		}
	}
	want := []common.Hash{common.BytesToHash(older), common.BytesToHash(newer[:])}
	slices.SortFunc(want, common.Hash.Cmp)
	if got := w.Named(w.kms.Address())[observe.Implementations]; !slices.Equal(got, want) {
		t.Errorf("the implementations %v are known, want %v", got, want)
	}
}

// TestEveryChangeGetsATime: a node that gives no time in its logs is asked for the time of every change, and for the sender of the
// last one of an id alone.
func TestEveryChangeGetsATime(t *testing.T) {
	w := newWorld(t)
	timestamp := regexp.MustCompile(`,?"blockTimestamp":"0x[0-9a-f]+"`)
	sent := 0
	w.proxy.Set(rpcfault.Fault{Name: "older node", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getLogs" {
			a.Result = timestamp.ReplaceAll(a.Result, nil)
		}
		if c.Method == "eth_getTransactionByHash" {
			sent++
		}
	}})
	w.allow(1)
	must(t, w.kms.RemoveDevice(ctx, common.Hash{1}))
	w.allow(1)
	must(t, w.update())
	contract := w.kms.Address()
	if !w.Annotate(ctx, contract, []audit.ListChange{{List: audit.Device, ID: common.Hash{1}}}) || sent != 1 {
		t.Errorf("something is left to find out, or %d senders were asked for", sent)
	}
	all := w.state.Events(state.Target{Chain: "base", Contract: contract})
	for _, e := range all {
		h, err := w.chain.Client().HeaderByHash(ctx, e.BlockHash)
		must(t, err)
		if e.Time.Unix() != int64(h.Time) {
			t.Errorf("%s at block %d: time %s, want %d", e.List, e.Block, e.Time, h.Time)
		}
	}
	if len(all) < 3 {
		t.Errorf("%d events", len(all))
	}
}

var implementationSlot = common.HexToHash("0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc")

// TestEventsThatAreRefusedAtOnceBeginWithTheContract: a provider gives the owner's events at once, and not those of anybody. These
// are not looked for in all the blocks before the contract was there.
func TestEventsThatAreRefusedAtOnceBeginWithTheContract(t *testing.T) {
	w := newWorld(t)
	w.allow(1)
	head := w.head()
	must(t, w.state.Append(state.Target{Chain: "base", Contract: w.kms.Address()}, 0, head.Number, head.Hash, nil))
	first := uint64(1) << 62
	w.proxy.Watch(func(c rpcfault.Call) {
		var filter struct{ FromBlock hexutil.Uint64 }
		if c.Method == "eth_getLogs" && json.Unmarshal(c.Params[0], &filter) == nil {
			first = min(first, uint64(filter.FromBlock))
		}
	})
	must(t, w.Update(ctx, w.kms.Address(), true, w.head()))
	if first == 0 {
		t.Error("logs are read from the genesis block on")
	}
}
