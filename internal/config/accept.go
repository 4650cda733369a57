package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Exception is a difference on a chain that the operator accepts until a date.
type Exception struct {
	Chain string
	audit.Exception
}

// maxAccept is how far ahead a difference may be accepted: one that is accepted for ever is never looked at again.
// A file that is right stays right, since time only brings its dates nearer.
const maxAccept = 366 * 24 * time.Hour

func (r resolver) accept(fs []fileAccept, chains []fileChain) []Exception {
	now := time.Now
	if r.env.Now != nil {
		now = r.env.Now
	}
	latest := now().Add(maxAccept)
	var list []Exception
	seen := map[Exception]int{}
	for i, f := range fs {
		at := fmt.Sprintf("accept[%d]", i)
		if r.bad(at) {
			continue
		}
		a := r.accepted(at, f, chains, latest)
		a.Index = i
		list = append(list, a)
		a.Index, a.Reason, a.Expires = 0, "", time.Time{}
		switch first, twice := seen[a]; {
		case slices.ContainsFunc([]string{".chain", ".contract", ".kind", ".list", ".id"}, func(key string) bool { return r.bad(at + key) }):
		case twice:
			r.add(at, "is about the same difference as accept[%d]", first)
		default:
			seen[a] = i
		}
	}
	return list
}

func (r resolver) accepted(at string, f fileAccept, chains []fileChain, latest time.Time) Exception {
	a := Exception{f.Chain, audit.Exception{
		Contract: common.Address(f.Contract),
		List:     audit.List(f.List),
		ID:       string(f.ID),
		Kind:     audit.Kind(f.Kind),
		Reason:   f.Reason,
		Expires:  time.Time(f.Expires),
	}}
	named := func(c fileChain) bool { return c.Name == f.Chain }
	switch {
	case !r.given(at + ".chain"):
		r.add(at+".chain", "must be given")
	case !r.bad("chains") && !slices.ContainsFunc(chains, named):
		r.add(at+".chain", "must be one of the configured chains")
	}
	if !r.given(at + ".contract") {
		r.add(at+".contract", "must be given")
	}
	switch {
	case !r.given(at + ".kind"):
		r.add(at+".kind", "must be given: the kind of the finding")
	case !slices.Contains(audit.Kinds, a.Kind):
		r.add(at+".kind", "%s is no kind of finding", sanitize.Quote(f.Kind))
	case !a.Kind.Acceptable():
		r.add(at+".kind", "%s cannot be accepted: %s", a.Kind, unacceptable(a.Kind))
	default:
		a.ID = r.about(at, a.Exception)
	}
	r.reason(at+".reason", f.Reason, "why you live with it")
	switch {
	case !r.given(at + ".expires"):
		r.add(at+".expires", "must be given, such as 2026-12-31: nothing is accepted for ever")
	case a.Expires.After(latest):
		r.add(at+".expires", "must be at most a year ahead, and %s is later", a.Expires.Format(time.DateOnly))
	}
	return a
}

// unacceptable says why the operator cannot live with a kind.
func unacceptable(k audit.Kind) string {
	switch k {
	case audit.ChainMismatch, audit.ContractNotListed, audit.NoCode:
		return "nothing was compared, and that is never consistent"
	case audit.ContractUnexpected:
		return "the contract is not audited, so add it to contracts"
	case audit.AcceptExpired, audit.AcceptUnused:
		return "change or remove the accept that it is about"
	default:
		return "a source lies, and what it says was not verified"
	}
}

// about checks list and id against the kind, and returns the id as a report spells it.
func (r resolver) about(at string, a audit.Exception) string {
	if !a.Kind.OfEntry() {
		for _, key := range []string{".list", ".id"} {
			if r.given(at + key) {
				r.add(at+key, "must be left out: %s is about the contract as a whole", a.Kind)
			}
		}
		return ""
	}
	if !slices.Contains(audit.Lists, a.List) {
		r.add(at+".list", "must be device or os_image: %s is about an entry", a.Kind)
	}
	switch {
	case a.Kind == audit.NoHash && a.ID != "":
		r.add(at+".id", "must be left out: an image without a hash has none")
	case a.Kind == audit.NoHash || r.bad(at+".id"):
	case a.ID == "":
		r.add(at+".id", "must be given: %s is about an entry", a.Kind)
	case a.Kind == audit.MalformedID:
		digits := strings.TrimSuffix(a.ID, "…")
		if s, err := strconv.Unquote(digits); err != nil || strconv.Quote(s) != digits || len(s) > sanitize.MaxLen {
			r.add(at+".id", `must be as the report spells it, with its own quotes: '"0x12"'`)
		}
	default:
		id, err := sanitize.ParseID(a.ID)
		if err != nil {
			r.add(at+".id", "%s", err)
		}
		return id.Hex()
	}
	return a.ID
}
