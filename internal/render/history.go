package render

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// History lists the changes of the lists, as far as events were read. history -o json writes it.
type History struct {
	Scanned []Scanned `json:"scanned"`
	Events  []Event   `json:"events"` // the oldest first
}

// Scanned says which blocks of a contract were searched for events.
type Scanned struct {
	Chain    string `json:"chain"`
	ChainID  uint64 `json:"chain_id"`
	Contract string `json:"contract"`
	From     uint64 `json:"from_block"`
	To       uint64 `json:"to_block"`
}

// Event is one change of a list. It comes from a log, and is not proven. An event of a forgotten contract comes from the state,
// and has neither block nor transaction.
type Event struct {
	Time     *time.Time `json:"time,omitempty"`         // of the block; nil: no provider gave it
	Untimed  bool       `json:"time_unknown,omitempty"` // Time is nil
	Chain    string     `json:"chain"`                  // its name in the configuration
	ChainID  uint64     `json:"chain_id"`
	Block    uint64     `json:"block,omitempty"`
	LogIndex uint       `json:"log_index"`
	Contract string     `json:"contract"`
	List     string     `json:"list"`
	Change   string     `json:"change"` // added, removed or forgotten
	ID       string     `json:"id"`     // an address if the list is app
	Name     string     `json:"name,omitempty"`
	Version  string     `json:"version,omitempty"`
	Actor    string     `json:"actor,omitempty"`
	Tx       string     `json:"tx,omitempty"`
}

func (h History) WriteText(b *bytes.Buffer, opt TextOptions) {
	t := text{b, opt, 12}
	g := Table{
		Heads: []string{"TIME", "CHAIN", "BLOCK", "CONTRACT", "LIST", "CHANGE", "ID", "NAME", "ACTOR", "TRANSACTION"},
		Drop:  []string{"TRANSACTION", "CONTRACT", Shorten, "TRANSACTION", "CONTRACT", "CHAIN", "BLOCK", "LIST", "NAME", "ACTOR"},
	}
	for _, e := range h.Events {
		block := ""
		if e.Block > 0 {
			block = fmt.Sprint(e.Block)
		}
		g.Add(e.when(), e.Chain, block, e.Contract, e.List, e.Change, t.id(e.ID), t.name(named(e.Name, e.Version)), e.Actor, e.Tx)
	}
	g.Write(b, opt, "", "no change of the lists is known\n")
	for _, s := range h.Scanned {
		t.printf("%s %s: events of blocks %d to %d were read\n", Plain(s.Chain), Plain(s.Contract), s.From, s.To)
	}
	if len(h.Scanned) == 0 {
		t.printf("no contract's events were read\n")
	}
}

// when formats the time of the event.
func (e Event) when() string {
	if e.Time == nil {
		return "unknown"
	}
	return when(e.Time)
}

// when formats a time; nil is "".
func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Explanation is all that is known about one id. explain -o json writes it.
type Explanation struct {
	ID     string   `json:"id"`
	Places []Place  `json:"places"` // where the id is known; empty if nowhere
	Failed []string `json:"failed"` // which sources failed, in sentences
}

// Place is what is known about the id in one list of one contract.
type Place struct {
	Chain        string             `json:"chain"`
	ChainID      uint64             `json:"chain_id"`
	Contract     string             `json:"contract"`
	List         string             `json:"list"`
	Name         string             `json:"name,omitempty"`
	Version      string             `json:"version,omitempty"`
	Claim        audit.ClaimState   `json:"claim,omitempty"`    // empty if the contract was not audited, or the list is not audited
	OnChain      audit.ChainState   `json:"on_chain,omitempty"` // likewise
	Policy       audit.PolicyState  `json:"policy,omitempty"`
	Verdict      audit.EntryVerdict `json:"verdict,omitempty"`
	Kind         audit.Kind         `json:"kind,omitempty"`
	Reason       string             `json:"reason,omitempty"`
	Accepted     *audit.Accepting   `json:"accepted,omitempty"`
	Assurance    audit.Assurance    `json:"assurance,omitempty"`
	Completeness audit.Completeness `json:"completeness,omitempty"`
	Audit        *Audited           `json:"audit,omitempty"` // the source of the fields above
	Findings     []Known            `json:"findings"`        // the open ones first, then the latest
	Events       []Event            `json:"events"`          // the oldest first
}

// Audited is the audit that a place comes from.
type Audited struct {
	AuditID    string       `json:"audit_id"`
	FinishedAt time.Time    `json:"finished_at"`
	Block      *audit.Block `json:"block"`
	Later      *time.Time   `json:"later_failed_at,omitempty"` // the end of a later audit that could not compare
}

// Known is a finding about the id.
type Known struct {
	Kind      audit.Kind     `json:"kind"`
	Severity  audit.Severity `json:"severity"`
	Message   string         `json:"message"`
	Meaning   string         `json:"meaning"`
	Runbook   string         `json:"runbook"`
	FirstSeen *time.Time     `json:"first_seen,omitempty"`
	// LastConfirmedAt is the end of the last audit that saw it.
	LastConfirmedAt *time.Time `json:"last_confirmed_at,omitempty"`
	ResolvedAt      *time.Time `json:"resolved_at,omitempty"` // nil while it is open

	Abandoned bool `json:"abandoned,omitempty"` // it is open, and its chain is no longer configured
}

// NewKnown adds its meaning to f.
func NewKnown(f audit.Finding) Known {
	return Known{Kind: f.Kind, Severity: f.Severity, Message: f.Message, Meaning: f.Kind.Meaning(), Runbook: f.Runbook, FirstSeen: f.FirstSeen, LastConfirmedAt: f.LastConfirmedAt}
}

func (x Explanation) WriteText(b *bytes.Buffer, opt TextOptions) {
	t := text{b, opt, 12}
	t.printf("%s\n", Plain(x.ID))
	if len(x.Places) == 0 {
		t.printf("\nIt is not known: no audit, no event and no policy names it.\n")
	}
	for _, f := range x.Failed {
		t.printf("\ncould not be read: %s\n", Plain(f))
	}
	for _, p := range x.Places {
		t.place(p)
	}
}

func (t *text) place(p Place) {
	t.printf("\n%s\n", spaced(p.Chain, p.Contract, p.List, named(p.Name, p.Version)))
	t.optional("  API       %s", string(p.Claim))
	t.optional("  on chain  %s", onChain(p))
	t.optional("  policy    %s", string(p.Policy))
	t.optional("  verdict   %s", spaced(string(p.Verdict), why(audit.Entry{Kind: p.Kind, Reason: p.Reason})))
	if a := p.Accepted; a != nil {
		t.printf("  accepted  %s\n", accepting(a.Reason, a.Expires))
	}
	if a := p.Audit; a != nil {
		t.printf("  as of     %s\n", a.when())
		if p.Assurance != "" {
			t.printf("  assurance %s, completeness %s\n", p.Assurance, p.Completeness)
		}
		t.optional("  but       the audit of %s could not compare", when(a.Later))
	}
	open := func(f Known) int { return map[bool]int{true: severities[f.Severity], false: 1}[f.ResolvedAt == nil] }
	for _, f := range slices.SortedStableFunc(slices.Values(p.Findings), func(a, b Known) int { return open(a) - open(b) }) {
		t.known(f)
	}
	if p.Kind != "" && !slices.ContainsFunc(p.Findings, func(f Known) bool { return f.Kind == p.Kind && f.ResolvedAt == nil }) {
		t.printf("  meaning   %s\n            what to do: %s\n", capital(p.Kind.Meaning()), p.Kind.Runbook())
	}
	if len(p.Events) > 0 {
		t.printf("  changes\n")
		g := Table{Heads: []string{"TIME", "BLOCK", "CHANGE", "ACTOR", "TRANSACTION"}, Drop: []string{"TRANSACTION", Shorten, "TRANSACTION"}}
		for _, e := range p.Events {
			g.Add(e.when(), fmt.Sprint(e.Block), e.Change, e.Actor, e.Tx)
		}
		g.Write(t.Buffer, t.opt, "    ", "")
	} else if p.Audit != nil {
		t.printf("  no change is known\n")
	}
}

// onChain formats the state on chain, and since when if the last event explains it.
func onChain(p Place) string {
	if len(p.Events) == 0 || p.OnChain == audit.ChainUnknown || p.OnChain == "" {
		return string(p.OnChain)
	}
	last := p.Events[len(p.Events)-1]
	if (last.Change == "added") != (p.OnChain == audit.ChainAllowed) {
		return fmt.Sprintf("%s, but the last event, of block %d, says %s", p.OnChain, last.Block, last.Change)
	}
	return fmt.Sprintf("%s since block %d", p.OnChain, last.Block) + after(" of ", when(last.Time)) + after(", by ", Plain(last.Actor))
}

func (a *Audited) when() string {
	if a.Block == nil {
		return "the audit of " + when(&a.FinishedAt) + ", which pinned no block"
	}
	return fmt.Sprintf("block %d of %s, audited at %s", a.Block.Number, when(&a.Block.Time), when(&a.FinishedAt))
}

func (t *text) known(f Known) {
	what, todo := "finding", "what to do: "+Plain(f.Runbook)
	if f.ResolvedAt != nil {
		what, todo = "resolved", ""
	}
	seen := after(", first seen ", when(f.FirstSeen)) + after(", last confirmed ", when(f.LastConfirmedAt)) + after(", resolved ", when(f.ResolvedAt))
	t.printf("  %-9s %s\n", what, spaced(string(f.Severity), string(f.Kind)+":", strings.TrimPrefix(seen, ", ")))
	if f.Abandoned {
		t.printf("            its chain is no longer configured, so no audit checks it\n")
	}
	for _, line := range []string{Plain(f.Message), Plain(capital(f.Meaning)), todo} {
		t.optional("            %s", line)
	}
}

// KindExplanation is what explain says about a kind of finding.
type KindExplanation struct {
	Kind       audit.Kind     `json:"kind"`
	Severity   audit.Severity `json:"severity"`
	Verdict    audit.Verdict  `json:"verdict"`    // of a contract with such a finding; consistent if the finding changes nothing
	Acceptable bool           `json:"acceptable"` // whether the configuration may accept it
	Meaning    string         `json:"meaning"`
	Runbook    string         `json:"runbook"`
}

// NewKindExplanation explains k.
func NewKindExplanation(k audit.Kind) KindExplanation {
	return KindExplanation{k, k.Severity(), k.Makes(), k.Acceptable(), k.Meaning(), k.Runbook()}
}

func (k KindExplanation) WriteText(b *bytes.Buffer, opt TextOptions) {
	t, verdict, accept := text{b, opt, 12}, "the verdict stays as it is", "no"
	if k.Verdict != audit.Consistent {
		verdict = fmt.Sprintf("the contract is %s", k.Verdict)
	}
	if k.Acceptable {
		accept = "yes, with a row in accept, which has a reason and a last day"
	}
	t.printf("%s\n  severity  %s\n  verdict   %s\n  meaning   %s\n  accept    %s\n  runbook   %s\n", k.Kind, k.Severity, verdict, capital(k.Meaning), accept, k.Runbook)
}
