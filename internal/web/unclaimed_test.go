package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// The page must not report a missing claim for a chain that no API covers.
func TestThePageOfAChainWithoutClaims(t *testing.T) {
	r := audited(time.Now(), audit.Target{Verdict: audit.Consistent, Completeness: audit.Complete, Counts: audit.Counts{Match: 1, Unclaimed: 1}, Entries: []audit.Entry{
		{List: audit.Device, ID: id(1), Claim: audit.ClaimNone, OnChain: audit.ChainAllowed, Policy: audit.PolicyAllowed, Verdict: audit.Match},
		{List: audit.OSImage, ID: id(2), Claim: audit.ClaimNone, OnChain: audit.ChainAllowed, Verdict: audit.Unclaimed},
	}})
	if body := shown(t, options(r)); !strings.Contains(body, "none could be fetched") {
		t.Error("a claim that is missing is not told of")
	}
	r.Chains[0].Claims = audit.ClaimNone
	body := shown(t, options(r))
	for want, there := range map[string]bool{
		"no API covers this chain": true, "or your policy where nothing is claimed, was compared": true, `<td>none</td>`: true, ">allowed<": true,
		"none could be fetched": false, "the API was not read": false, "could not be read": false,
	} {
		if strings.Contains(body, want) != there {
			t.Errorf("%q is there: %t, want %t\n%s", want, !there, there, body[strings.Index(body, "<body>"):])
		}
	}
}
