package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
)

// answer is what every contender finds: the differences between claim and chain, one a line, in order.
type answer []string

// difference is a line of an answer. Every contender spells it so: address and id in lower case.
func difference(chain, contract, list, id string, claim, onChain bool) string {
	return fmt.Sprintf("%s %s %s %s %t %t", chain, strings.ToLower(contract), list, strings.ToLower(id), claim, onChain)
}

// truth is the right answer.
func (w *world) truth(seeded bool) answer {
	a := answer{}
	for c, at := range w.contracts {
		for i, e := range w.size.entriesOf(c) {
			if seeded && isSeed(i) {
				list := audit.OSImage
				if e.device {
					list = audit.Device
				}
				a = append(a, difference(chainName(w.size.chainOf(c)), at.Hex(), string(list), e.id.Hex(), !e.allowed, e.allowed))
			}
		}
	}
	slices.Sort(a)
	return a
}

// readLines reads the answer of a contender that prints it, one difference a line.
func readLines(out []byte) (answer, error) {
	a := answer(strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }))
	slices.Sort(a)
	return a, nil
}

// readReport reads the answer out of a report of kms-auditor. One that could not check, or that read less than
// everything, is no answer.
func readReport(assurance audit.Assurance, completeness audit.Completeness) func([]byte) (answer, error) {
	return func(out []byte) (answer, error) {
		var r audit.Report
		if err := json.Unmarshal(out, &r); err != nil {
			return nil, fmt.Errorf("reading the report: %w", err)
		}
		a := answer{}
		for _, c := range r.Chains {
			for _, t := range c.Targets {
				if t.Verdict == audit.Unknown || t.Assurance != assurance || t.Completeness != completeness || len(c.Errors) > 0 {
					return nil, fmt.Errorf("contract %s is %s, %s, %s: %v %v", t.Contract, t.Verdict, t.Assurance, t.Completeness, t.Reasons, c.Errors)
				}
				for _, e := range t.Entries {
					if e.Verdict != audit.Match {
						a = append(a, difference(c.Chain, t.Contract, string(e.List), e.ID, e.Claim == audit.ClaimAllowed, e.OnChain == audit.ChainAllowed))
					}
				}
			}
		}
		slices.Sort(a)
		return a, nil
	}
}
