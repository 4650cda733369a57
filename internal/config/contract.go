package config

import (
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// maxReason is what a report shows of a text, in bytes.
const maxReason = quote.Max

func (r resolver) contracts(path string, fs []fileContract) []Contract {
	var list []Contract
	seen := map[address]bool{}
	for i, f := range fs {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case r.bad(at):
			continue
		case !r.given(at + ".address"):
			r.add(at+".address", "must be given")
		case r.bad(at + ".address"):
		case seen[f.Address]:
			r.add(at+".address", "contract %s is listed twice", common.Address(f.Address))
		default:
			seen[f.Address] = true
		}
		list = append(list, Contract{common.Address(f.Address), f.FromBlock, r.explained(at+".explained_slots", f.Explained)})
	}
	return list
}

func (r resolver) explained(path string, fs []fileExplained) []Explained {
	var list []Explained
	seen := map[slot]bool{}
	for i, f := range fs {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case r.bad(at):
			continue
		case !r.given(at + ".slot"):
			r.add(at+".slot", "must be given")
		case r.bad(at + ".slot"):
		case seen[f.Slot]:
			r.add(at+".slot", "slot %s is listed twice in this contract", common.Hash(f.Slot))
		default:
			seen[f.Slot] = true
		}
		switch {
		case strings.TrimSpace(f.Reason) == "":
			r.add(at+".reason", "must be given: the report shows why the slot may be in use")
		case len(f.Reason) > maxReason:
			r.add(at+".reason", "must be at most %d bytes long, and has %d", maxReason, len(f.Reason))
		}
		list = append(list, Explained{common.Hash(f.Slot), f.Reason})
	}
	return list
}
