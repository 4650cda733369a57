package render

import (
	"fmt"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// meanings says in a few words when a finding of a kind is made, as the README's table does.
var meanings = map[audit.Kind]string{
	audit.ClaimAllowedChainDenied: "the API says allowed, the contract refuses",
	audit.ClaimDeniedChainAllowed: "the contract trusts what the API calls refused",
	audit.UnlistedChainAllowed:    "the contract trusts an id that the API does not list",
	audit.ClaimUnknownKind:        "the API says null for an id that can be checked",
	audit.NoHash:                  "an image without a hash and without a claim; with a claim: unknown",
	audit.MalformedID:             "a claimed id is not 32 bytes of hex",
	audit.DuplicateConflict:       "two rows of one id whose claims differ",
	audit.ContractNotListed:       "the API does not list a contract that is configured, or that an earlier audit knew",
	audit.ContractUnexpected:      "the API lists a contract that is not configured; it is audited only if an earlier audit knew it",
	audit.NoCode:                  "nothing is deployed at a listed address",
	audit.ChainMismatch:           "the chain ids of configuration, API, contract row and provider do not all agree",
	audit.ProviderDisagreement:    "two providers differ about one block, and nobody else could be read",
	audit.ProofInvalid:            "a provider's proof does not verify, and nobody else could be read",
	audit.GetterDisagrees:         "eth_call answers what the proven state does not give, and nobody else could be read",
	audit.StorageUnaccounted:      "the contract stores something that no getter and no event explains",
	audit.OwnerChanged:            "the owner is not that of the policy, else of the baseline",
	audit.ImplementationChanged:   "the implementation is not that of the policy, else of the baseline",
	audit.CodeChanged:             "the code is not that of the policy, else of the baseline",
	audit.GatewayAppIDMismatch:    "the API's list of KMS gives another gateway app id than the contract",
	audit.KMSPubkeyMismatch:       "the API gives another public key than the contract",
	audit.KMSContractMismatch:     "the API's list of KMS and its on-chain detail do not name the same contracts",
	audit.ClaimUnstable:           "one of two looks saw a difference, the other did not",
	audit.ChainWentBack:           "the pinned block is older than one that was audited before",
	audit.PolicyDeniedAllowed:     "the operator's own list refuses what the contract allows",
	audit.PolicyAllowedDenied:     "the operator's own list allows what the contract refuses",
	audit.AcceptExpired:           "an accepted difference ran out",
	audit.AcceptUnused:            "an accepted difference matches nothing",
}

// found is a finding, or a difference that the operator accepts.
type found struct {
	audit.Finding
	entry    *audit.Entry      // that shows it; nil: it is about the contract, or this audit did not see it
	accepted *audit.Acceptance // nil: it counts
}

// allFound returns the findings of t, and then what is accepted.
func allFound(t *audit.Target) (out []found) {
	about := func(k audit.Kind, l audit.List, id string) [3]string { return [3]string{string(k), string(l), id} }
	shown := map[[3]string][]*audit.Entry{}
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Kind != "" {
			k := about(e.Kind, e.List, e.ID)
			shown[k] = append(shown[k], e)
		}
	}
	for _, f := range t.Findings {
		next, k := found{Finding: f}, about(f.Kind, f.List, f.ID)
		if same := shown[k]; len(same) > 0 && f.State != audit.Still { // images without a hash share an empty id
			next.entry, shown[k] = same[0], same[1:]
		}
		out = append(out, next)
	}
	for _, a := range t.Accepted {
		f := audit.Finding{Kind: a.Kind, Severity: a.Kind.Severity(), List: a.List, ID: a.ID, Message: a.Message}
		next := found{Finding: f, accepted: &a}
		if i := slices.IndexFunc(t.Entries, func(e audit.Entry) bool {
			return e.Verdict == audit.Accepted && e.Kind == a.Kind && e.List == a.List && e.ID == a.ID
		}); i >= 0 {
			next.entry = &t.Entries[i]
		}
		out = append(out, next)
	}
	return out
}

// unchecked reports whether something on the chain could not be checked, which drift elsewhere may hide.
func unchecked(c *audit.Chain) bool {
	for _, t := range c.Targets {
		if t.Verdict == audit.Unknown || len(t.Reasons) > 0 || slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return f.State == audit.Still }) {
			return true
		}
	}
	return c.Verdict == audit.Unknown
}

var severities = map[audit.Severity]int{audit.Critical: -2, audit.Warning: -1}

// CompareSeverities orders findings, the most severe first.
func CompareSeverities(a, b audit.Severity) int { return severities[a] - severities[b] }

// Open counts the findings of earlier audits that the report's audit could not look at again, and returns the worst of
// them: the most severe, then the oldest. It returns nil if there is none.
func Open(r *audit.Report) (n int, worst *audit.Finding) {
	for _, t := range Targets(r) {
		for i := range t.Findings {
			f := &t.Findings[i]
			if f.State != audit.Still {
				continue
			}
			if n++; worst == nil || worse(f, worst) {
				worst = f
			}
		}
	}
	return n, worst
}

func worse(a, b *audit.Finding) bool {
	if order := CompareSeverities(a.Severity, b.Severity); order != 0 {
		return order < 0
	}
	return a.FirstSeen != nil && b.FirstSeen != nil && a.FirstSeen.Before(*b.FirstSeen)
}

// openSince says since when a finding is open that the report's audit could not look at again; empty if it saw it.
func openSince(r *audit.Report, f audit.Finding) string {
	if f.State != audit.Still {
		return ""
	}
	confirmed := ""
	if f.LastConfirmedAt != nil {
		confirmed = ", last confirmed " + Span(r.FinishedAt.Sub(*f.LastConfirmedAt)) + " ago"
	}
	return "open" + after(" since ", when(f.FirstSeen)) + confirmed + ": this audit could not look"
}

// Span spells a time span in its largest unit, as the page's script does.
func Span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, d)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
