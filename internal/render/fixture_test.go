package render_test

import (
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
)

const (
	contract = "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"
	retired  = "node is being retired"
)

var (
	noon    = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	allowed = "0x6427f4f5ded88b72d326bd973e581c1689c5080c6444a0cf90fec7d9e4c8b92a"
	refused = "0xbd369a8c2f9edb2b52dad48ac8e0b32dde5f1337c423a506b48d07403a7d8033"
	until   = noon.Add(40 * 24 * time.Hour)
	device  = "0xc84e73c6ce0b01f85606727593be79296c30a41510679c4492aec02dc57407d0"
)

func report(verdict audit.Verdict, chains ...audit.Chain) *audit.Report {
	return &audit.Report{
		Schema: audit.Schema, AuditID: "0198f3c2", Version: "1.0.0", Verdict: verdict,
		StartedAt: noon.Add(-2 * time.Second), FinishedAt: noon, Chains: append([]audit.Chain{}, chains...),
	}
}

func base(verdict audit.Verdict, targets ...audit.Target) audit.Chain {
	return audit.Chain{
		Chain: "base", ChainID: 8453, Verdict: verdict, Policy: "finalized",
		Block:  &audit.Block{Number: 51375546, Hash: "0x" + strings.Repeat("ab", 32), Time: noon.Add(-15 * time.Minute)},
		Claim:  &audit.Claim{FetchedAt: noon.Add(-time.Second), SHA256: strings.Repeat("0f", 32), APIVersion: "2026-06-23", RequestID: "req-1"},
		Errors: []audit.SourceError{}, Targets: append([]audit.Target{}, targets...),
	}
}

// drift has entries of every verdict, the agreeing ones first.
func drift() *audit.Report {
	seen := noon.Add(-time.Hour)
	malformed := `"64a0"…`
	return report(audit.Drift, base(audit.Drift, audit.Target{
		Contract: contract, Verdict: audit.Drift, Reasons: []string{}, Assurance: audit.Single, Completeness: audit.Unchecked,
		Counts: audit.Counts{Match: 2, Mismatch: 1, Unverifiable: 2, Pending: 1, Accepted: 1},
		Entries: []audit.Entry{
			{List: audit.Device, ID: device, Name: "prod5", Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match, Assurance: audit.Single},
			{List: audit.Device, ID: malformed, Name: "prod7", Claim: audit.ClaimAllowed, OnChain: audit.ChainUnknown, Verdict: audit.Unverifiable,
				Kind: audit.MalformedID, Severity: audit.Warning, Reason: audit.ReasonMalformed},
			{List: audit.Device, ID: "0x" + strings.Repeat("07", 32), Claim: audit.ClaimDenied, OnChain: audit.ChainAllowed, Verdict: audit.Accepted,
				Kind: audit.ClaimDeniedChainAllowed, Severity: audit.Critical, Assurance: audit.Agreed, Accepted: &audit.Accepting{Reason: retired, Expires: until}},
			{List: audit.OSImage, ID: allowed, Name: "dstack-0.5.8", Version: "0.5.8", Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match, Assurance: audit.Single},
			{List: audit.OSImage, ID: refused, Name: "dstack-0.5.9", Version: "0.5.9", Claim: audit.ClaimAllowed, OnChain: audit.ChainDenied, Verdict: audit.Mismatch,
				Kind: audit.ClaimAllowedChainDenied, Severity: audit.Warning, Assurance: audit.Single, FirstSeen: &seen},
			{List: audit.OSImage, ID: "0x" + strings.Repeat("08", 32), Name: "dstack-0.6.0", Version: "0.6.0", Claim: audit.ClaimAllowed, OnChain: audit.ChainDenied, Verdict: audit.Pending,
				Kind: audit.ClaimAllowedChainDenied, Severity: audit.Warning, Reason: audit.ReasonHeadAgrees, Assurance: audit.Proven},
			{List: audit.OSImage, Name: "dstack-dev-0.5.0", Version: "0.5.0", Claim: audit.ClaimUnknown, OnChain: audit.ChainUnknown, Verdict: audit.Unverifiable,
				Kind: audit.NoHash, Severity: audit.Info, Reason: audit.ReasonNoHash},
		},
		Accepted: []audit.Acceptance{{Kind: audit.ClaimDeniedChainAllowed, List: audit.Device, ID: "0x" + strings.Repeat("07", 32),
			Message: "the contract allows it, the API refuses it", Reason: retired, Expires: until}},
		Findings: []audit.Finding{
			finding(audit.ClaimAllowedChainDenied, audit.OSImage, refused, "the API says that image dstack-0.5.9 is allowed, the contract refuses it", &seen),
			finding(audit.MalformedID, audit.Device, malformed, "device id "+malformed+" has 4 characters, want 64 hex digits", nil),
			finding(audit.NoHash, audit.OSImage, "", "image dstack-dev-0.5.0 is listed without a hash", nil),
		},
	}))
}

func finding(k audit.Kind, l audit.List, id, message string, seen *time.Time) audit.Finding {
	return audit.Finding{Kind: k, Severity: k.Severity(), List: l, ID: id, Message: message, Runbook: k.Runbook(), FirstSeen: seen, State: audit.Confirmed}
}

// consistent was looked through completely, with the operator's help.
func consistent() *audit.Report {
	return report(audit.Consistent, base(audit.Consistent, audit.Target{
		Contract: contract, Verdict: audit.Consistent, Reasons: []string{}, Assurance: audit.Proven, Completeness: audit.Complete,
		Counts: audit.Counts{Match: 1}, Findings: []audit.Finding{},
		Storage:   &audit.Storage{Root: "0x" + strings.Repeat("cd", 32), CodeHash: "0x" + strings.Repeat("ef", 32), Slots: 29},
		Explained: []audit.ExplainedSlot{{Slot: common.HexToHash("0x2a"), Reason: "counter of the first implementation"}},
		Entries:   []audit.Entry{{List: audit.Device, ID: device, Name: "prod5", Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match, Assurance: audit.Proven}},
	}))
}

// backdoor has an id that the API does not list, and storage that nothing explains. One entry's last event is known
// whole, one's in part, one's not at all.
func backdoor() *audit.Report {
	at, tx, unlisted := noon.Add(-24*time.Hour), "0x"+strings.Repeat("7e", 32), "0x"+strings.Repeat("09", 32)
	r := consistent()
	r.Verdict, r.Chains[0].Verdict = audit.Drift, audit.Drift
	t := &r.Chains[0].Targets[0]
	t.Verdict, t.Completeness, t.Explained, t.Storage.Slots = audit.Drift, audit.Incomplete, nil, 1
	t.Counts = audit.Counts{Match: 2, Mismatch: 1}
	t.Entries = append(t.Entries,
		audit.Entry{List: audit.Device, ID: unlisted, Claim: audit.ClaimUnlisted, OnChain: audit.ChainAllowed, Verdict: audit.Mismatch, Assurance: audit.Proven,
			Kind: audit.UnlistedChainAllowed, Severity: audit.Critical, Changed: &audit.Changed{Block: 51300000, Time: &at, Tx: common.HexToHash(tx), Actor: contract}},
		audit.Entry{List: audit.OSImage, ID: allowed, Name: "dstack-0.5.8", Version: "0.5.8", Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match,
			Assurance: audit.Proven, Changed: &audit.Changed{Block: 39000000, Tx: common.HexToHash(tx)}})
	t.Findings = []audit.Finding{
		finding(audit.UnlistedChainAllowed, audit.Device, unlisted, "the contract allows it, the API does not list it", nil),
		finding(audit.StorageUnaccounted, "", "", "the contract stores more than the 1 slot that is explained", nil),
	}
	return r
}

// unknown is one chain without a block and another without a claim.
func unknown() *audit.Report {
	one := base(audit.Unknown, audit.Target{
		Contract: contract, Verdict: audit.Unknown, Reasons: []string{"the chain was not read"}, Completeness: audit.Unchecked,
		Counts: audit.Counts{Unverifiable: 1}, Findings: []audit.Finding{},
		Entries: []audit.Entry{{List: audit.Device, ID: device, Name: "prod5", Claim: audit.ClaimAllowed, OnChain: audit.ChainUnknown, Verdict: audit.Unverifiable, Reason: audit.ReasonNotRead}},
	})
	one.Block = nil
	one.Errors = []audit.SourceError{{Stage: audit.StageRPC, Source: "public", Message: "asking for block finalized: connection refused"}}
	other := base(audit.Unknown)
	other.Chain, other.ChainID, other.Claim = "ethereum", 1, nil
	other.Errors = []audit.SourceError{{Stage: audit.StageAPI, Source: "api", Message: "fetching the claim: the API answered 503"}}
	return report(audit.Unknown, one, other)
}

// outage is what is left of backdoor while the API is down: nothing is compared, and what is wrong stays open.
func outage() *audit.Report {
	r, opened, confirmed := backdoor(), noon.Add(-26*time.Hour), noon.Add(-2*time.Hour)
	r.Verdict, r.Chains[0].Verdict, r.Chains[0].Claim = audit.Unknown, audit.Unknown, nil
	r.Chains[0].Errors = []audit.SourceError{{Stage: audit.StageAPI, Source: "api", Message: "fetching the claim: the API answered 503"}}
	t := &r.Chains[0].Targets[0]
	t.Verdict, t.Completeness, t.Reasons, t.Counts = audit.Unknown, audit.Complete, []string{"the API could not be read"}, audit.Counts{Unverifiable: 2, Unclaimed: 1}
	for i := range t.Entries {
		e := &t.Entries[i]
		e.Claim, e.Verdict, e.Kind, e.Severity, e.Reason = audit.ClaimUnknown, audit.Unverifiable, "", "", audit.ReasonNoClaim
	}
	t.Entries[0].Verdict, t.Entries[0].Reason = audit.Unclaimed, ""
	t.Findings = append(t.Findings[:1], finding(audit.ClaimAllowedChainDenied, audit.OSImage, refused, "the API says allowed, the contract refuses it", &confirmed))
	for i := range t.Findings {
		t.Findings[i].State, t.Findings[i].FirstSeen, t.Findings[i].LastConfirmedAt = audit.Still, &opened, &confirmed
	}
	return r
}

// evil would draw on a terminal, and break a table.
const evil = "a\x1b[2J\tb\nc\u202ed\xff"

// hostile has foreign text that would draw on a terminal, break a table, or fill the screen.
func hostile() *audit.Report {
	r := drift()
	c := &r.Chains[0]
	c.Errors = []audit.SourceError{{Stage: audit.StageDecode, Source: evil, Message: evil + strings.Repeat("x", 1000)}}
	t := &c.Targets[0]
	t.Reasons = []string{evil}
	t.Explained = []audit.ExplainedSlot{{Slot: common.HexToHash(device), Reason: evil}}
	t.Entries = t.Entries[:1]
	t.Entries[0].ID, t.Entries[0].Name, t.Entries[0].Version = evil, strings.Repeat("n", 1000), evil
	t.Findings = t.Findings[:1]
	t.Findings[0].ID, t.Findings[0].Message = evil, evil
	t.Accepted = []audit.Acceptance{{Kind: audit.OwnerChanged, ID: evil, Message: evil, Reason: evil}}
	return r
}
