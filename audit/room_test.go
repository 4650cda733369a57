package audit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// rows are claims of so many rows, by chain.
type rows map[string]int

func (r rows) OnChainDetail(_ context.Context, chain string) (*kmsapi.OnChainDetail, error) {
	return &kmsapi.OnChainDetail{ChainID: chainID, Contracts: []kmsapi.Contract{{
		Address: common.Address{1}, ChainID: chainID, Devices: slices.Repeat([]kmsapi.Device{{ID: dev1.Hex()}}, r[chain]),
	}}}, nil
}

// held is a provider that says nothing until it is let go.
type held struct {
	asked atomic.Int32
	goOn  chan struct{}
}

func (h *held) Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	req.Questions(ctx, ethrpc.Block{})
	h.asked.Add(1)
	<-h.goOn
	return nil, errors.New("no answer")
}

func TestLargeClaimsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := max(2, runtime.GOMAXPROCS(0))
		large, small, claims := &held{goOn: make(chan struct{})}, &held{goOn: make(chan struct{})}, rows{}
		var chains []audit.ChainOptions
		add := func(name string, n int, h *held) {
			claims[name] = n
			chains = append(chains, audit.ChainOptions{Name: name, ChainID: chainID, Reader: h})
		}
		for i := range turns + 3 {
			add(fmt.Sprintf("large %d", i), 20_000, large)
			add(fmt.Sprintf("small %d", i), 3, small)
		}
		asked := func(when string, wantLarge, wantSmall int) {
			t.Helper()
			synctest.Wait()
			if l, s := int(large.asked.Load()), int(small.asked.Load()); l != wantLarge || s != wantSmall {
				t.Errorf("%s: %d large claims and %d small ones are audited, want %d and %d", when, l, s, wantLarge, wantSmall)
			}
		}
		done := make(chan *audit.Report, 1)
		go func() { done <- audit.New(audit.Options{Claims: claims, Chains: chains}).Audit(t.Context()) }()
		asked("at first", turns, turns+3)
		large.goOn <- struct{}{}
		asked("after one ended", turns+1, turns+3)
		time.Sleep(5 * time.Second)
		asked("when the others keep waiting", turns+3, turns+3)
		close(large.goOn)
		close(small.goOn)
		if r := <-done; len(r.Chains) != len(chains) || r.Verdict != audit.Unknown {
			t.Errorf("%d chains, %s", len(r.Chains), r.Verdict)
		}
	})
}
