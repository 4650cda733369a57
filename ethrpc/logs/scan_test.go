package logs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// The first range is answered last.
func TestScanHandsOnInOrder(t *testing.T) {
	w := newLogWorld(t)
	var mu sync.Mutex
	others, enough := 0, make(chan struct{})
	w.Proxy.Set(rpcfault.Fault{HTTP: func(_ http.ResponseWriter, r *http.Request, calls []rpcfault.Call, _ bool) bool {
		switch from, _, ok := asksLogs(calls[0]); {
		case ok && from == 0:
			select {
			case <-enough:
			case <-r.Context().Done():
			}
		case ok:
			mu.Lock()
			if others++; others == 3 {
				close(enough)
			}
			mu.Unlock()
		}
		return false
	}})
	req := w.scan()
	req.Step = 10 // it grows
	if _, err := newClient(t, w.URL).Scan(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	w.complete(t)
	if len(w.pieces) < 15 {
		t.Errorf("%d pieces, want many", len(w.pieces))
	}
}

func TestTheNextProviderTakesOver(t *testing.T) {
	w := newLogWorld(t)
	w.Proxy.Set(rpcfault.Fault{HTTP: func(rw http.ResponseWriter, _ *http.Request, calls []rpcfault.Call, _ bool) bool {
		from, _, ok := asksLogs(calls[0])
		if !ok || from < 160 {
			return false
		}
		http.Error(rw, "on fire", 500)
		return true
	}})
	second := rpcfault.New(w.Chain.URL())
	var mu sync.Mutex
	first := ^uint64(0)
	second.Watch(func(c rpcfault.Call) {
		mu.Lock()
		defer mu.Unlock()
		if from, _, ok := asksLogs(c); ok {
			first = min(first, from)
		}
	})
	handed := uint64(0) // by p1
	req := w.scan()
	req.Step = 20
	keep := req.OnBatch
	req.OnBatch = func(from, to uint64, last common.Hash, logs []types.Log) error {
		mu.Lock()
		if first == ^uint64(0) {
			handed = to + 1
		}
		mu.Unlock()
		return keep(from, to, last, logs)
	}
	by, err := newClient(t, w.URL, testenv.Serve(t, second)).Scan(t.Context(), req)
	if err != nil || by != "p2" {
		t.Fatalf("Scan = %q, %v; want p2's", by, err)
	}
	w.complete(t)
	if handed == 0 || first != handed {
		t.Errorf("p2 began at block %d, p1 had handed on all before %d", first, handed)
	}
}

// A second provider on another branch must not continue where the first one ended.
func TestATakeoverStandsOnTheSameBlocks(t *testing.T) {
	w := newLogWorld(t)
	handed := make(chan struct{}) // closed at the first batch
	w.Proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if from, _, ok := asksLogs(c); ok && from >= 20 {
			select {
			case <-handed:
			case <-t.Context().Done():
			}
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32601, Message: "no more"}
		}
	}})
	other := rpcfault.New(w.Chain.URL())
	other.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == `"0x13"` {
			a.Result = w.block(19, common.Hash{1})
		}
	}})
	req := w.scan()
	req.Step = 20
	keep := req.OnBatch
	req.OnBatch = func(from, to uint64, last common.Hash, logs []types.Log) error {
		defer close(handed)
		return keep(from, to, last, logs)
	}
	_, err := newClient(t, w.URL, testenv.Serve(t, other)).Scan(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "p2: the chain was reorganised: block 19 was 0x") || len(w.pieces) != 1 {
		t.Errorf("Scan = %v after %v, want p2's other block 19", err, w.pieces)
	}
}

// block is a block as nodes send it.
func (w *logWorld) block(number uint64, hash common.Hash) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"number":"0x%x","hash":%q,"timestamp":"0x1"}`, number, hash))
}

func TestReorganisationsEndAScan(t *testing.T) {
	for _, tt := range []struct {
		name string
		when func(w *logWorld, to uint64) bool // a batch was delivered; nil means before the scan
	}{
		{"before the scan nothing is handed on", nil},
		{"within the scan it is an error in spite of a second provider", func(_ *logWorld, to uint64) bool { return to == 19 }},
		{"after the last piece it is one too", func(w *logWorld, to uint64) bool { return to == w.head.Number.Uint64() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newLogWorld(t)
			reorg := func() {
				if _, err := w.Chain.Reorg(t.Context(), 3); err != nil {
					t.Error(err)
				}
			}
			req := w.scan()
			req.Step = 20
			keep := req.OnBatch
			req.OnBatch = func(from, to uint64, last common.Hash, logs []types.Log) error {
				if err := keep(from, to, last, logs); err != nil {
					return err
				}
				if tt.when(w, to) {
					reorg()
				}
				return nil
			}
			if tt.when == nil {
				reorg()
			}
			second := rpcfault.New(w.Chain.URL())
			_, err := newClient(t, w.URL, testenv.Serve(t, second)).Scan(t.Context(), req)
			if !errors.Is(err, logs.ErrReorganised) || (tt.when == nil) != (len(w.pieces) == 0) {
				t.Fatalf("Scan = %v after %d pieces", err, len(w.pieces))
			}
			if got := second.Requests() > 0; got != (tt.when == nil) {
				t.Errorf("the second provider was asked: %v, want it only before a piece was handed on", got)
			}
		})
	}
}

func TestAScanIsResumedFromWhereItEnded(t *testing.T) {
	w := newLogWorld(t)
	full := errors.New("the disk is full")
	req := w.scan()
	req.Step = 50
	keep := req.OnBatch
	req.OnBatch = func(from, to uint64, last common.Hash, logs []types.Log) error {
		if len(w.pieces) == 3 {
			return full
		}
		return keep(from, to, last, logs)
	}
	c := newClient(t, w.URL, w.Chain.URL())
	if by, err := c.Scan(t.Context(), req); !errors.Is(err, full) || by != "p1" {
		t.Fatalf("Scan = %q, %v; want p1's, ended by the caller", by, err)
	}
	req.From, req.OnBatch = w.pieces[2][1]+1, keep
	if _, err := c.Scan(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	w.complete(t)
	req.From = req.To + 1
	if _, err := c.Scan(t.Context(), req); err != nil {
		t.Errorf("a scan of nothing: %v", err)
	}
	w.complete(t)
}

func TestAScanEndsWithItsContext(t *testing.T) {
	w := newLogWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	req := w.scan()
	req.Step = 20
	keep := req.OnBatch
	req.OnBatch = func(from, to uint64, last common.Hash, logs []types.Log) error {
		cancel()
		return keep(from, to, last, logs)
	}
	_, err := newClient(t, w.URL, w.Chain.URL()).Scan(ctx, req)
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "p2") {
		t.Errorf("Scan = %v, want p1's end", err)
	}
}

func TestAScanStandsOnWhatWasReadBefore(t *testing.T) {
	w := newLogWorld(t)
	before, err := w.Chain.Client().HeaderByNumber(t.Context(), big.NewInt(99))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sentence string
		after    common.Hash
		gone     bool
	}{
		{"it stands on what was read", before.Hash(), false},
		{"it does not", common.Hash{1}, true},
	} {
		req := w.scan()
		req.From, req.After = 100, tt.after
		_, err := newClient(t, w.URL).Scan(t.Context(), req)
		if errors.Is(err, logs.ErrReorganised) != tt.gone || tt.gone == (err == nil) || tt.gone && len(w.pieces) > 0 {
			t.Errorf("%s: %v, and %d pieces", tt.sentence, err, len(w.pieces))
		}
	}
}
