package config

import (
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

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
		list = append(list, Contract{
			Address:   common.Address(f.Address),
			FromBlock: f.FromBlock,
			Explained: r.explained(at+".explained_slots", f.Explained),
			Policy:    r.policy(at+".policy", f.Policy),
		})
	}
	return list
}

func (r resolver) explained(path string, fs []fileExplained) []Explained {
	var list []Explained
	seen := map[bytes32]bool{}
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
		r.reason(at+".reason", f.Reason, "why the slot may be in use")
		list = append(list, Explained{common.Hash(f.Slot), f.Reason})
	}
	return list
}

// reason checks that a text tells something, and fits into what a report shows of one.
func (r resolver) reason(path, s, why string) {
	switch {
	case strings.TrimSpace(s) == "":
		r.add(path, "must be given: the report shows %s", why)
	case len(s) > sanitize.MaxLen:
		r.add(path, "must be at most %d bytes long, and has %d", sanitize.MaxLen, len(s))
	}
}

// policy keeps apart what the file leaves out, which is not checked, and an empty list, which wants nothing.
func (r resolver) policy(path string, f filePolicy) *audit.Policy {
	if !r.given(path) {
		return nil
	}
	p := &audit.Policy{Devices: r.ids(path+".devices", f.Devices), OSImages: r.ids(path+".os_images", f.OSImages)}
	if r.given(path + ".owner") {
		p.Owner = (*common.Address)(&f.Owner)
	}
	if r.given(path + ".implementation") {
		p.Implementation = (*common.Address)(&f.Implementation)
	}
	if r.given(path + ".code_hash") {
		p.CodeHash = (*common.Hash)(&f.CodeHash)
	}
	return p
}

func (r resolver) ids(path string, fs []bytes32) []common.Hash {
	if fs == nil {
		return nil
	}
	ids := make([]common.Hash, len(fs))
	seen := map[bytes32]bool{}
	for i, f := range fs {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case r.bad(at):
			continue
		case seen[f]:
			r.add(at, "id %s is listed twice", common.Hash(f))
		}
		seen[f] = true
		ids[i] = common.Hash(f)
	}
	return ids
}
