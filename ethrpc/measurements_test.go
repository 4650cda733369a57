package ethrpc_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// TestAMeasurementThatCannotBeReadCostsItself checks that it has an error and that everything else is proven.
func TestAMeasurementThatCannotBeReadCostsItself(t *testing.T) {
	bad, good := common.Hash{0: 0xff}, ids(1)[0]
	for name, row := range map[string]struct {
		does string // at 13, for an id that begins with ff
		says string
	}{
		"it never ends":                 {"5b600d56", "out of gas"},
		"it writes":                     {"5b5f5f5500", proof.ErrWrites.Error()},
		"it looks at an old block hash": {"5b5f405000", "hash of block 0"},
		"it answers 2":                  {"5b6002" + returnsTop, "neither 0 nor 1"},
		"it reverts":                    {"5b5f5ffd", "reverts"},
	} {
		t.Run(name, func(t *testing.T) {
			// For any other id the code continues after that.
			length := len(row.does) / 2
			code := "60043560f81c60ff1415" + "60" + common.Bytes2Hex([]byte{byte(13 + length)}) + "57" + row.does + "5b" + looksUp
			w := twoContracts(t, code, map[common.Hash]common.Hash{good: {31: 1}})
			req := w.both(1)
			req.queries[0].AggregatedMRs = []common.Hash{good, bad}
			got := w.unharmed(t, ethrpc.VerifyRequired, req)
			if got.Err != nil || !got.Proven || !got.Devices[good].Allowed || !got.AggregatedMRs[good].Allowed || got.AggregatedMRs[good].Err != nil {
				t.Fatalf("it is read as %+v", got)
			}
			if err := got.AggregatedMRs[bad].Err; err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, want %q", err, row.says)
			}
		})
	}
}

// TestProvidersDisagreeAboutAMeasurement has two providers that prove nothing.
func TestProvidersDisagreeAboutAMeasurement(t *testing.T) {
	w := newWorld(t)
	q := w.query()
	q.AggregatedMRs = []common.Hash{ids(1)[0]}
	other := ofGetter("kmsAllowedAggregatedMrs(bytes32)", `"0x`+strings.Repeat("0", 63)+`1"`)
	w.Proxy.Set(other)
	s, err := look(t.Context(), newClient(t, "latest", w.URL), request{queries: []ethrpc.Query{q}})
	if err != nil || !s.AggregatedMRs[ids(1)[0]].Allowed {
		t.Fatalf("one provider, unproven: %+v, %v", s, err)
	}
	_, err = look(t.Context(), prover(t, ethrpc.VerifyOff, 2, w.URL, w.Chain.URL()), request{queries: []ethrpc.Query{q}})
	if _, ok := errors.AsType[*ethrpc.ReadError](err); !ok || !strings.Contains(err.Error(), "kmsAllowedAggregatedMrs(bytes32)("+ids(1)[0].Hex()+") is true vs. false") {
		t.Errorf("two that disagree: %v", err)
	}
}
