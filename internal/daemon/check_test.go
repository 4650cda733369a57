package daemon_test

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

func TestCheckAsksTheAPIForWhatAuditsAskIt(t *testing.T) {
	unlisted := fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.List, Status: 403}
	unknown := func(status int) fakeapi.Fault {
		return fakeapi.Fault{Name: fakeapi.Status, Chain: "ethereum", Status: status}
	}
	elsewhere := fakeapi.KMS{ID: "kc_1", ChainID: 1, Contract: contract.Hex()}
	empty := fakeapi.Chain{ChainName: "ethereum", ChainID: 1}
	const (
		fine  = "base api ok, ethereum api ok, api kms ok"
		wrong = "base api ok, ethereum api wrong, api kms ok"
	)
	for _, row := range []struct {
		sentence string
		crossed  bool
		unclaims int // how many of the two chains have no claims, the last first
		discover bool
		fault    fakeapi.Fault
		change   func(*world)
		want     string
	}{
		{sentence: "without cross-checks the list is not asked for", fault: unlisted, want: "base api ok, ethereum api wrong"},
		{sentence: "with them it is, and wants a key", crossed: true, change: func(w *world) { w.api.Set(empty) }, fault: unlisted, want: "base api ok, ethereum api ok, api kms wrong"},
		{sentence: "a configured chain must be known", crossed: true, want: wrong},
		{sentence: "one that nobody configured need not be, where no KMS is", crossed: true, discover: true, want: fine},
		{sentence: "nor where the API finds nothing", crossed: true, discover: true, fault: unknown(404), want: fine},
		{sentence: "or knows it, without a KMS", crossed: true, discover: true, change: func(w *world) { w.api.Set(empty) }, want: fine},
		{sentence: "where the list names a KMS it must be known", crossed: true, discover: true,
			change: func(w *world) { w.api.UpdateKMS(func(all *[]fakeapi.KMS) { *all = append(*all, elsewhere) }) }, want: wrong},
		{sentence: "a failure is no refusal", crossed: true, discover: true, fault: unknown(500), want: wrong},
		{sentence: "nor is one of the key", crossed: true, discover: true, fault: unknown(401), want: wrong},
		{sentence: "without the list nothing is left out", crossed: true, discover: true, fault: unlisted, want: "base api ok, ethereum api wrong, api kms wrong"},
		{sentence: "a chain without claims needs no API", unclaims: 1, want: "base api ok"},
		{sentence: "nor do cross-checks ask it about such a chain", crossed: true, unclaims: 1, want: "base api ok, api kms ok"},
		{sentence: "where no chain has claims nothing is asked", crossed: true, unclaims: 2, fault: fakeapi.Fault{Name: fakeapi.Status, Status: 500}, want: ""},
		{sentence: "where all chains are left out there is nothing to audit", crossed: true, discover: true,
			change: func(w *world) { w.api.Set(fakeapi.Chain{ChainName: "base", ChainID: 8453}) }, want: "base api ok, ethereum api ok, api kms wrong"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := newWorld(t)
			if row.change != nil {
				row.change(w)
			}
			if row.fault.Name != "" {
				w.api.Fail(row.fault)
			}
			cfg := w.config(t)
			other := cfg.Chains[0]
			other.Name, other.ChainID = "ethereum", 1
			cfg.Chains = append(cfg.Chains, other)
			cfg.CrossChecks, cfg.Discover = row.crossed, row.discover
			for i := range row.unclaims {
				cfg.Chains[1-i].Claims = config.NoClaims
			}
			a, err := daemon.New(cfg, daemon.Options{Log: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			var got []string
			a.Check(t.Context(), &state.State{}, func(chain, source string, err error) {
				if source == "local" {
					return
				}
				how := " ok"
				if err != nil {
					how = " wrong"
				}
				got = append(got, chain+" "+source+how)
			})
			if got := strings.Join(got, ", "); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		})
	}
}
