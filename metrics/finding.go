package metrics

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Bounds of open findings.
const (
	maxOpen = 100 // open_finding series of one target
	maxName = 40  // bytes of a name
)

// finding is the labels of an open_finding series.
type finding struct {
	list, id string
	kind     audit.Kind
	message  string // of the report; no label
	state    audit.FindingState
	since    *time.Time
}

// opened returns when the finding was first seen, or zero if not known.
func (f *finding) opened() time.Time {
	if f.since == nil {
		return time.Time{}
	}
	return *f.since
}

// details are the parts of an alert that the labels of a finding do not have.
type details struct{ name, tx string }

// sentences say what a contract does with an entry.
var sentences = map[audit.Kind]string{
	audit.UnlistedChainAllowed:    "trusts %s, which the API does not list",
	audit.ClaimDeniedChainAllowed: "trusts %s, which the API says is refused",
	audit.PolicyDeniedAllowed:     "trusts %s, which your policy does not list",
	audit.ClaimAllowedChainDenied: "refuses %s, which the API says is allowed",
	audit.PolicyAllowedDenied:     "refuses %s, which your policy allows",
}

var listNames = map[string]string{string(audit.Device): "device", string(audit.OSImage): "OS image", string(audit.AggregatedMR): "measurement"}

// sentence says what is wrong. A name has a question mark: only the API vouches for it.
func (f *finding) sentence(chain, contract string, d details) string {
	of := "KMS contract " + contract + " on " + chain
	format, ok := sentences[f.kind]
	if !ok {
		message := sanitize.NoMarkup(cmp.Or(f.message, f.kind.Meaning()), sanitize.MaxLen)
		if does, ok := strings.CutPrefix(message, "the contract "); ok {
			return of + " " + does
		}
		return of + ": " + message
	}
	what := listNames[f.list] + " " + f.id
	if d.name != "" {
		what += " (" + d.name + "?)"
	}
	return of + " " + fmt.Sprintf(format, what)
}

// open adds the open findings of a target. If several have the same labels, one of them counts. Beyond the limit, one of each kind
// and then the most severe and oldest stay: new findings must not end the alerts of others.
func (s *snapshot) open(chain, contract string, t *audit.Target) {
	var all []finding
	for i := range t.Findings {
		if f := &t.Findings[i]; slices.Contains(audit.Kinds, f.Kind) {
			all = append(all, finding{label(f.List), wholeID(f.ID), f.Kind, f.Message, f.State, f.FirstSeen})
		}
	}
	byLabels := func(a, b finding) int {
		return cmp.Or(rank(a.kind)-rank(b.kind), slices.Index(audit.Kinds, a.kind)-slices.Index(audit.Kinds, b.kind),
			strings.Compare(a.list, b.list), strings.Compare(a.id, b.id))
	}
	slices.SortFunc(all, func(a, b finding) int { return cmp.Or(byLabels(a, b), strings.Compare(a.message, b.message)) })
	all = slices.CompactFunc(all, func(a, b finding) bool { return byLabels(a, b) == 0 })
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Or(rank(a.kind)-rank(b.kind), a.opened().Compare(b.opened())) })
	var first, rest []finding
	for _, f := range all {
		if slices.ContainsFunc(first, func(o finding) bool { return o.kind == f.kind }) {
			rest = append(rest, f)
		} else {
			first = append(first, f)
		}
	}
	all = append(first, rest...)
	all = all[:min(len(all), maxOpen)]
	known := s.detailsOf(chain, contract, t, all)
	for i := range all {
		f, d := &all[i], known[i]
		kind := string(f.kind)
		s.gauge(openDesc, 1, chain, contract, f.list, f.id, kind, string(f.kind.Severity()))
		s.gauge(infoDesc, 1, chain, contract, f.list, f.id, kind, d.name, d.tx, f.sentence(chain, contract, d))
		if f.since != nil {
			s.gauge(firstSeenDesc, unix(*f.since), chain, contract, f.list, f.id, kind)
		}
	}
	s.gauge(droppedDesc, float64(len(t.Findings)-len(all)), chain, contract)
}

// detailsOf returns the details of each finding. A finding that the last audit could not check keeps its earlier details.
func (s *snapshot) detailsOf(chain, contract string, t *audit.Target, all []finding) []details {
	entries := map[[2]string]*audit.Entry{}
	for i := range all {
		entries[[2]string{all[i].list, all[i].id}] = nil
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if k := [2]string{string(e.List), e.ID}; e.ID != "" {
			if _, ok := entries[k]; ok {
				entries[k] = e
			}
		}
	}
	out := make([]details, len(all))
	for i, f := range all {
		d := &out[i]
		if e := entries[[2]string{f.list, f.id}]; e != nil && f.kind.OfEntry() {
			d.name = sanitize.NoMarkup(e.Name, maxName)
			if e.Changed != nil && e.Changed.Tx != (common.Hash{}) {
				d.tx = e.Changed.Tx.Hex()
			}
		}
		key := [3]string{chain, contract, f.list + f.id + string(f.kind)}
		if f.state == audit.Still {
			d.name, d.tx = cmp.Or(d.name, s.before[key].name), cmp.Or(d.tx, s.before[key].tx)
		}
		s.details[key] = *d
	}
	return out
}

func rank(k audit.Kind) int {
	return slices.Index([]audit.Severity{audit.Critical, audit.Warning, audit.Info}, k.Severity())
}

// label returns l if it is one of audit.Lists, else empty.
func label(l audit.List) string {
	if slices.Contains(audit.Lists, l) {
		return string(l)
	}
	return ""
}

// wholeID returns id if it is well-formed, else empty.
func wholeID(id string) string {
	if h, err := sanitize.ParseID(id); err == nil && h.Hex() == id {
		return id
	}
	return ""
}
