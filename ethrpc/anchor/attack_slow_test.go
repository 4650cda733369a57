package anchor_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// TestAnEndpointAfterASlowOne: what it sends was signed while the slow one was waited for.
func TestAnEndpointAfterASlowOne(t *testing.T) {
	w := newWorld(t)
	w.chain = beacon.New(beacon.Options{GenesisTime: uint64(time.Now().Unix()) - 700})
	w.network.GenesisTime = w.chain.GenesisTime
	h := header(500)
	h.Time = w.chain.GenesisTime + 500
	w.checkpoint = w.chain.Finalize(h)
	opt := anchor.Options{Network: w.network, Checkpoint: w.checkpoint}
	for i, h := range []http.HandlerFunc{
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		func(rw http.ResponseWriter, r *http.Request) {
			h := header(600)
			h.Time = uint64(time.Now().Unix()) - 1
			w.chain.Attest(h)
			w.ServeHTTP(rw, r)
		},
	} {
		opt.Endpoints = append(opt.Endpoints, anchor.Endpoint{Name: string(rune('a' + i)), URL: sanitize.NewSecret(testenv.Serve(t, h) + "/" + secret), Timeout: 4 * time.Second})
	}
	c, err := anchor.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	head, failed := c.Sync(t.Context(), common.Hash{}, time.Now())
	if head == nil || !head.Current || len(failed) != 1 {
		t.Fatalf("%v %v", head != nil, failed)
	}
}
