package audit

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// list returns what the policy wants allowed of a list; nil: it does not say.
func (w Policy) list(l List) []common.Hash {
	if l == Device {
		return w.Devices
	}
	return w.OSImages
}

// of tells what the policy says of an id.
func (w Policy) of(l List, id common.Hash) PolicyState {
	switch all := w.list(l); {
	case all == nil:
		return ""
	case slices.Contains(all, id):
		return PolicyAllowed
	default:
		return PolicyDenied
	}
}

// asks are the questions about the ids that the policy wants allowed.
func (w Policy) asks(contract common.Address) []ethrpc.Ask {
	return Named{Devices: w.Devices, Images: w.OSImages}.asks(contract)
}

// judgePolicy holds the chain's answer against what the operator wants.
func (e *entry) judgePolicy() {
	e.policy = ""
	switch {
	case e.Policy == PolicyDenied && e.OnChain == ChainAllowed:
		e.policy = PolicyDeniedAllowed
	case e.Policy == PolicyAllowed && e.OnChain == ChainDenied:
		e.policy = PolicyAllowedDenied
	default:
		return
	}
	e.Verdict, e.Reason = Mismatch, ""
}

// kinds are what is wrong with the entry.
func (e *entry) kinds() []Kind {
	var out []Kind
	for _, k := range []Kind{e.Kind, e.policy} {
		if k != "" {
			out = append(out, k)
		}
	}
	return out
}
