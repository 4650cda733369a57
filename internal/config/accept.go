package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

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

func (d *doc) accept(cfg *Config) {
	latest := d.env.Now().Add(maxAccept)
	seen := map[Exception]string{}
	n := 0
	for at, e := range elements(d, "accept", cfg.Accept) {
		d.difference(at, e, cfg.Chains)
		d.reason(at+".reason", e.Reason, "why you live with it")
		d.check(d.given(at+".expires"), at+".expires", "must be given, such as 2026-12-31: nothing is accepted for ever")
		d.check(!e.Expires.After(latest), at+".expires", "must be at most a year ahead, and %s is later", e.Expires.Format(time.DateOnly))
		about := *e
		about.Reason, about.Expires = "", time.Time{}
		switch first, twice := seen[about]; {
		case slices.ContainsFunc([]string{".chain", ".contract", ".kind", ".list", ".id"}, func(key string) bool { return d.bad(at + key) }):
		case twice:
			d.add(at, "is about the same difference as %s", first)
		default:
			seen[about] = at
		}
		e.Index = n
		n++
	}
}

// difference checks what an accept is about.
func (d *doc) difference(at string, e *Exception, chains []Chain) {
	configured := slices.ContainsFunc(chains, func(c Chain) bool { return c.Name == e.Chain })
	d.check(d.given(at+".chain"), at+".chain", "must be given")
	d.check(configured || d.bad("chains"), at+".chain", "must be one of the configured chains")
	d.check(d.given(at+".contract"), at+".contract", "must be given")
	d.check(d.given(at+".kind"), at+".kind", "must be given: the kind of the finding")
	switch {
	case !slices.Contains(audit.Kinds, e.Kind):
		d.add(at+".kind", "%s is no kind of finding", sanitize.Quote(string(e.Kind)))
	case !e.Kind.Acceptable():
		d.add(at+".kind", "%s cannot be accepted: %s", e.Kind, unacceptable(e.Kind))
	default:
		e.ID = d.entry(at, e.Exception)
	}
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

// entry checks list and id against the kind, and returns the id as a report spells it.
func (d *doc) entry(at string, a audit.Exception) string {
	if !a.Kind.OfEntry() {
		for _, key := range []string{".list", ".id"} {
			d.check(!d.given(at+key), at+key, "must be left out: %s is about the contract as a whole", a.Kind)
		}
		return ""
	}
	d.check(slices.Contains(audit.Lists, a.List), at+".list", "must be device, os_image or aggregated_mr: %s is about an entry", a.Kind)
	switch {
	case a.Kind == audit.NoHash && a.ID != "":
		d.add(at+".id", "must be left out: an image without a hash has none")
	case a.Kind == audit.NoHash || d.bad(at+".id"):
	case a.ID == "":
		d.add(at+".id", "must be given: %s is about an entry", a.Kind)
	case a.Kind == audit.MalformedID:
		digits := strings.TrimSuffix(a.ID, "…")
		if s, err := strconv.Unquote(digits); err != nil || strconv.Quote(s) != digits || len(s) > sanitize.MaxLen {
			d.add(at+".id", `must be as the report spells it, with its own quotes: '"0x12"'`)
		}
	default:
		id, err := sanitize.ParseID(a.ID)
		if err != nil {
			d.add(at+".id", "%s", err)
		}
		return id.Hex()
	}
	return a.ID
}
