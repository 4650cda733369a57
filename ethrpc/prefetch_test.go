package ethrpc_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// alongTheBlock changes the answers to calls that go along with the pin, by its tag.
func alongTheBlock(method, result string) rpcfault.Fault {
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == method && bytes.Equal(c.Params[len(c.Params)-1], []byte(`"latest"`)) {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

// TestALikelyContract checks that prefetched answers save requests if they match the block, and are harmless if not.
func TestALikelyContract(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		likely   []common.Address
		trips    int // at most
	}{
		{"nothing is likely", rpcfault.Fault{}, nil, 4},
		{"the contract is the likely one", rpcfault.Fault{}, []common.Address{w.KMS.Address()}, 3},
		{"the likely contract is another one", rpcfault.Fault{}, []common.Address{testchain.Address("nobody")}, 4},
		{"its proof is of another block", alongTheBlock("eth_getProof", `{"accountProof":["0x01"],"storageProof":[{},{},{},{},{},{}]}`), []common.Address{w.KMS.Address()}, 4},
		{"its proof is a number", alongTheBlock("eth_getProof", "7"), []common.Address{w.KMS.Address()}, 4},
		{"its code is another's", alongTheBlock("eth_getCode", `"0x00"`), []common.Address{w.KMS.Address()}, 4},
		{"its code is a number", alongTheBlock("eth_getCode", "7"), []common.Address{w.KMS.Address()}, 4},
		{"its getters are not answered", alongTheBlock("eth_call", "null"), []common.Address{w.KMS.Address()}, 5},
		{"its getters' answers are a number", alongTheBlock("eth_call", "7"), []common.Address{w.KMS.Address()}, 5},
		{"its getters' answers are another's", alongTheBlock("eth_call", wordYes), []common.Address{w.KMS.Address()}, 5},
		{"its getters' answers are a long text", alongTheBlock("eth_call", `"0x`+strings.Repeat("00", 31)+"20"+strings.Repeat("00", 30)+"4000"+strings.Repeat("61", 1<<14)+`"`), []common.Address{w.KMS.Address()}, 5},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w.Proxy.Set(row.fault)
			req := w.request()
			req.Prefetch = row.likely
			before := w.Proxy.Requests()
			s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), req)
			if err != nil {
				t.Fatal(err)
			}
			w.proven(t, s, true)
			if got := w.Proxy.Requests() - before; got > row.trips {
				t.Errorf("%d round trips, want at most %d", got, row.trips)
			}
		})
	}
}

func TestAProviderToAvoidIsAskedLast(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, "http://127.0.0.1:1", w.URL)
	req := w.request()
	for _, want := range []int{1, 0} {
		s, err := look(t.Context(), c, req)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.failed) != want || s.at.Provider != "p2" {
			t.Errorf("avoiding %q, %s pinned, and %d providers failed: %v", req.Avoid, s.at.Provider, len(s.failed), s.failed)
		}
		req.Avoid = []string{"p1"}
	}
}
