package selftest_test

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kms-auditor/kms-auditor/internal/selftest"
)

func TestTheRecordHolds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b, err := selftest.Recorded()
	must(t, err)
	outcomes, err := b.Run(t.Context(), build)
	must(t, err)
	verdicts := map[string]int{}
	for _, o := range outcomes {
		if !o.OK() {
			t.Errorf("%s: found %s, want %s; failed: %q", o.Sentence, o.Got, o.Want, o.Failed)
		}
		verdict, _, _ := strings.Cut(o.Got, ";")
		verdicts[verdict]++
	}
	if verdicts["consistent"] != 1 || verdicts["drift"] != 3 || len(verdicts) != 2 {
		t.Errorf("the verdicts are %v", verdicts)
	}
}

// TestAnotherRecordDoesNotPass changes the record, so that an audit must notice.
func TestAnotherRecordDoesNotPass(t *testing.T) {
	for _, row := range []struct {
		sentence string
		spoil    func(*selftest.Bundle)
		ok       int    // cases that pass all the same
		got      string // part of what the first case finds
	}{
		{"all claims are those of another case", func(b *selftest.Bundle) {
			for i := range b.Cases {
				b.Cases[i].Claim = b.Cases[1].Claim
			}
		}, 1, "drift"},
		{"a claim is no JSON", func(b *selftest.Bundle) { b.Cases[0].Claim = []byte("[") }, 3, "unknown"},
		{"every proof is another", replace("eth_getProof", `"0xf90`, `"0xf91`), 0, "unknown"},
		{"the chain is another", replace("eth_chainId", "0x2105", "0x1"), 0, "unknown"},
		{"the code is another", replace("eth_getCode", `"0x6080`, `"0x6081`), 0, "unknown"},
		{"no call has an answer", func(b *selftest.Bundle) { b.Calls = nil }, 0, "unknown"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			b, err := selftest.Recorded()
			must(t, err)
			row.spoil(b)
			outcomes, err := b.Run(t.Context(), build)
			must(t, err)
			ok := 0
			for _, o := range outcomes {
				if o.OK() {
					ok++
				}
			}
			if first := outcomes[0]; ok != row.ok || !strings.Contains(first.Got, row.got) || row.got == "unknown" && len(first.Failed) == 0 {
				t.Errorf("%d cases pass, want %d; the first found %s (%q)", ok, row.ok, first.Got, first.Failed)
			}
		})
	}
}

// replace spoils the results of a method.
func replace(method, old, now string) func(*selftest.Bundle) {
	return func(b *selftest.Bundle) {
		for i, c := range b.Calls {
			if c.Method == method {
				b.Calls[i].Result = bytes.ReplaceAll(c.Result, []byte(old), []byte(now))
			}
		}
	}
}
