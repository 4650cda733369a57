package render

import (
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// control tells who may change the contract, and what runs there. Addresses are whole: they are to be recognised.
func (t *text) control(target *audit.Target) {
	c := target.Control
	if c == nil {
		return
	}
	if c.Owner != "" {
		t.printf("  owner %s\n", Plain(c.Owner))
	}
	if c.PendingOwner != "" {
		t.printf("  %s\n", t.paint(yellow, "a transfer of ownership is under way: "+Plain(c.PendingOwner)+" can accept it at any time"))
	}
	if c.Implementation == "" {
		t.printf("  code %s, no proxy\n", t.id(c.CodeHash))
	} else {
		t.printf("  implementation %s, code %s behind proxy code %s\n", Plain(c.Implementation), t.id(c.ImplementationCodeHash), t.id(c.CodeHash))
	}
	if b := target.Baseline; b != nil {
		how := "was first seen"
		if b.Accepted {
			how = "was accepted"
		}
		t.printf("  compared with what %s at %s\n", how, b.Since.UTC().Format(time.RFC3339))
	}
}

// acceptance is a finding that does not count, and why.
func (t *text) acceptance(a audit.Acceptance) {
	t.printf("  %s %s\n           %s\n           %s\n", t.paint(entryColors[audit.Accepted], string(audit.Accepted)),
		t.about(a.Kind, a.List, a.ID), Plain(a.Message), accepting(a.Reason, a.Expires))
}

// accepting says why something is lived with, and how long.
func accepting(reason string, expires time.Time) string {
	return "until " + expires.UTC().Format(time.RFC3339) + ": " + Plain(reason)
}

// acceptedEntry is the index of the entry that a is about; -1: there is none.
func acceptedEntry(t *audit.Target, a audit.Acceptance) int {
	return slices.IndexFunc(t.Entries, func(e audit.Entry) bool {
		return e.Verdict == audit.Accepted && e.Kind == a.Kind && e.List == a.List && e.ID == a.ID
	})
}
