package matrix_test

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// accept takes out what the operator lives with.
func (w world) accept(t *truth, at common.Address) {
	for i := range t.entries {
		t.entries[i].open = t.entries[i].kinds
	}
	for _, a := range w.Accepts {
		if w.at[a.Contract] != at {
			continue
		}
		met := false
		for i := range t.entries {
			e := &t.entries[i]
			if a.ID == e.id && a.List == e.list && slices.Contains(e.kinds, a.Kind) {
				if met = true; !a.Expired {
					e.open = slices.DeleteFunc(slices.Clone(e.open), func(k string) bool { return k == a.Kind })
				}
			}
		}
		if whole := (finding{Kind: a.Kind}); a.ID < 0 && slices.Contains(t.findings, whole) {
			if met = true; !a.Expired {
				t.findings = slices.DeleteFunc(t.findings, func(f finding) bool { return f == whole })
			}
		}
		if met && a.Expired {
			t.findings = append(t.findings, a.expired())
		}
	}
}

func (a accept) expired() finding {
	if a.ID < 0 {
		return finding{Kind: "accept_expired"}
	}
	return finding{"accept_expired", listNames[a.List], idOf(a.List, a.ID).Hex()}
}

// confirm takes back what differs, and differed otherwise in an earlier look.
func (t *truth) confirm(first truth) {
	for i := range t.entries {
		e := &t.entries[i]
		same := slices.ContainsFunc(first.entries, func(f judged) bool {
			return f.list == e.list && f.id == e.id && f.drifts() && slices.Equal(f.kinds, e.kinds)
		})
		if e.drifts() && !same {
			*e = judged{list: e.list, id: e.id, held: true}
		}
	}
	t.findings = slices.DeleteFunc(t.findings, func(f finding) bool {
		gone := makes[f.Kind] == drift && !slices.Contains(first.findings, f)
		t.held = t.held || gone
		return gone
	})
}

// settle makes pending what the newest block has mended; nil: it is not asked.
func (w world) settle(t *truth, at common.Address, head *snapshot) {
	n := slices.Index(w.at[:], at)
	if head == nil || n < 0 || !head[n].code {
		return
	}
	young := slices.Contains(t.findings, finding{Kind: "no_code"})
	t.findings = slices.DeleteFunc(t.findings, func(f finding) bool { return f.Kind == "no_code" })
	for i := range t.entries {
		e := &t.entries[i]
		if e.drifts() || young && e.held {
			claims := w.claimsOf(at, e.list, e.id)
			then := w.entry(claims, head[n], w.wants(n), e.list, e.id)
			conflict := slices.Contains(e.kinds, "duplicate_conflict")
			if e.pending = !conflict && len(then.kinds) == 0; e.pending {
				e.open, e.kinds, e.held, e.compared = nil, nil, false, true
			}
		}
	}
}

func (w world) claimsOf(at common.Address, list, id int) (out []string) {
	for _, r := range w.claim.rows {
		for _, e := range r.entries {
			if r.contract == at && e.list == list && e.number() == id {
				out = append(out, e.allowed)
			}
		}
	}
	return out
}

// drifts tells whether the entry alone makes drift.
func (j judged) drifts() bool {
	return slices.ContainsFunc(j.open, func(k string) bool { return makes[k] == drift })
}

// told lists the findings that a report must tell.
func (t truth) told() []finding {
	out := slices.Clone(t.findings)
	for _, e := range t.entries {
		for _, k := range e.open {
			out = append(out, finding{k, listNames[e.list], idOf(e.list, e.id).Hex()})
		}
	}
	return out
}

// verdict is what all of it makes of the target: worst wins, and without a comparison it is unknown.
func (t truth) verdict() string {
	compared, held := false, t.held
	for _, e := range t.entries {
		switch {
		case e.drifts():
			return drift
		case e.held || len(e.open) > 0:
			held = true
		case e.compared:
			compared = true
		}
	}
	for _, f := range t.findings {
		switch makes[f.Kind] {
		case drift:
			return drift
		case unknown:
			held = true
		}
	}
	if held || !compared {
		return unknown
	}
	return consistent
}
