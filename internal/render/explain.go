package render

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// Explanation is all that is known of one id. It is what explain -o json writes.
type Explanation struct {
	ID     string   `json:"id"`
	Places []Place  `json:"places"` // where something is known of it; empty: it is not known
	Failed []string `json:"failed"` // what could not be asked, in sentences

	Wide bool `json:"-"` // for people: ids and hashes whole
}

// Place is what is known of the id in one list of one contract.
type Place struct {
	Chain        string             `json:"chain"`
	ChainID      uint64             `json:"chain_id"`
	Contract     string             `json:"contract"`
	List         string             `json:"list"`
	Name         string             `json:"name,omitempty"`
	Version      string             `json:"version,omitempty"`
	Claim        audit.ClaimState   `json:"claim,omitempty"`    // empty: the contract was not audited, or the list is not
	OnChain      audit.ChainState   `json:"on_chain,omitempty"` // likewise
	Policy       audit.PolicyState  `json:"policy,omitempty"`
	Verdict      audit.EntryVerdict `json:"verdict,omitempty"`
	Kind         audit.Kind         `json:"kind,omitempty"`
	Reason       string             `json:"reason,omitempty"`
	Accepted     *audit.Accepting   `json:"accepted,omitempty"`
	Assurance    audit.Assurance    `json:"assurance,omitempty"`
	Completeness audit.Completeness `json:"completeness,omitempty"`
	Audit        *Audited           `json:"audit,omitempty"` // that the fields above come from
	Findings     []Known            `json:"findings"`        // the open ones first, then the latest
	Events       []Event            `json:"events"`          // the oldest first
}

// Audited is the audit that a place was taken from.
type Audited struct {
	AuditID    string       `json:"audit_id"`
	FinishedAt time.Time    `json:"finished_at"`
	Block      *audit.Block `json:"block"`
	Later      *time.Time   `json:"later_failed_at,omitempty"` // a later audit, which could not compare
}

// Known is a finding about the id.
type Known struct {
	Kind      audit.Kind     `json:"kind"`
	Severity  audit.Severity `json:"severity"`
	Message   string         `json:"message"`
	Meaning   string         `json:"meaning"`
	Runbook   string         `json:"runbook"`
	FirstSeen *time.Time     `json:"first_seen,omitempty"`
	// LastConfirmedAt moves with every audit that sees it.
	LastConfirmedAt *time.Time `json:"last_confirmed_at,omitempty"`
	ResolvedAt      *time.Time `json:"resolved_at,omitempty"` // nil: it is open

	Abandoned bool `json:"abandoned,omitempty"` // it is open, and of a chain that is not configured any more
}

// NewKnown is f with its meaning.
func NewKnown(f audit.Finding) Known {
	return Known{Kind: f.Kind, Severity: f.Severity, Message: f.Message, Meaning: meanings[f.Kind], Runbook: f.Runbook, FirstSeen: f.FirstSeen, LastConfirmedAt: f.LastConfirmedAt}
}

func (x Explanation) WriteText(b *bytes.Buffer) {
	t := text{b, TextOptions{Wide: x.Wide}}
	t.printf("%s\n", Plain(x.ID))
	if len(x.Places) == 0 {
		t.printf("\nIt is not known: no audit, no event and no policy names it.\n")
	}
	for _, f := range x.Failed {
		t.printf("\ncould not be asked: %s\n", Plain(f))
	}
	for _, p := range x.Places {
		t.place(p)
	}
}

func (t *text) place(p Place) {
	t.printf("\n%s\n", spaced(p.Chain, p.Contract, p.List, named(p.Name, p.Version)))
	say := func(what, format string, args ...any) {
		t.printf("  %-9s "+format+"\n", append([]any{what}, args...)...)
	}
	if p.Claim != "" {
		say("API", "%s", p.Claim)
	}
	if p.OnChain != "" {
		say("on chain", "%s%s", p.OnChain, since(p))
	}
	if p.Policy != "" {
		say("policy", "%s", p.Policy)
	}
	if p.Verdict != "" {
		say("verdict", "%s", spaced(string(p.Verdict), why(audit.Entry{Kind: p.Kind, Reason: p.Reason})))
	}
	if a := p.Accepted; a != nil {
		say("accepted", "%s", accepting(a.Reason, a.Expires))
	}
	if a := p.Audit; a != nil {
		say("as of", "%s", a.when())
		if p.Assurance != "" {
			say("assurance", "%s, completeness %s", p.Assurance, p.Completeness)
		}
		if a.Later != nil {
			say("but", "the audit of %s could not compare", when(a.Later))
		}
	}
	for _, f := range p.Findings {
		t.known(f)
	}
	if p.Kind != "" && !slices.ContainsFunc(p.Findings, func(f Known) bool { return f.Kind == p.Kind && f.ResolvedAt == nil }) {
		say("meaning", "%s", capital(meanings[p.Kind]))
		say("", "what to do: %s", p.Kind.Runbook())
	}
	if len(p.Events) > 0 {
		t.printf("  changes\n")
		g := grid{{"TIME", "BLOCK", "CHANGE", "ACTOR", "TRANSACTION"}}
		for _, e := range p.Events {
			g.add(when(e.Time), fmt.Sprint(e.Block), e.Change, t.id(e.Actor), t.id(e.Tx))
		}
		g.write(t.Buffer, "    ")
	} else if p.Audit != nil {
		t.printf("  no event about it is remembered\n")
	}
}

// since tells whether the last event is what made the chain say what it says, and when that was.
func since(p Place) string {
	if len(p.Events) == 0 || p.OnChain == audit.ChainUnknown {
		return ""
	}
	last := p.Events[len(p.Events)-1]
	if (last.Change == "added") != (p.OnChain == audit.ChainAllowed) {
		return fmt.Sprintf(", although it was %s by the last event, of block %d", last.Change, last.Block)
	}
	s := fmt.Sprintf(" since block %d", last.Block)
	if last.Time != nil {
		s += " of " + when(last.Time)
	}
	if last.Actor != "" {
		s += ", by " + Plain(last.Actor)
	}
	return s
}

func (a *Audited) when() string {
	if a.Block == nil {
		return "the audit of " + when(&a.FinishedAt) + ", which pinned no block"
	}
	return fmt.Sprintf("block %d of %s, audited at %s", a.Block.Number, when(&a.Block.Time), when(&a.FinishedAt))
}

func (t *text) known(f Known) {
	var seen []string
	for _, s := range []struct {
		what string
		at   *time.Time
	}{{"first seen", f.FirstSeen}, {"last confirmed", f.LastConfirmedAt}, {"resolved", f.ResolvedAt}} {
		if s.at != nil {
			seen = append(seen, s.what+" "+when(s.at))
		}
	}
	what := "finding"
	if f.ResolvedAt != nil {
		what = "resolved"
	}
	t.printf("  %-9s %s\n", what, spaced(string(f.Severity), string(f.Kind)+":", strings.Join(seen, ", ")))
	if f.Abandoned {
		t.printf("            its chain is not configured any more: no audit looks whether it is still there\n")
	}
	for _, line := range []string{f.Message, capital(f.Meaning)} {
		if line = Plain(line); line != "" {
			t.printf("            %s\n", line)
		}
	}
	if f.ResolvedAt == nil {
		t.printf("            what to do: %s\n", Plain(f.Runbook))
	}
}
