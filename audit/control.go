package audit

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// controlOf spells what was read of the control over a contract.
func controlOf(c ethrpc.Control) Control {
	text := func(a *common.Address) string {
		if a == nil {
			return ""
		}
		return a.Hex()
	}
	out := Control{
		Owner:          text(c.Owner),
		PendingOwner:   text(c.PendingOwner),
		Implementation: text(c.Implementation),
		CodeHash:       c.CodeHash.Hex(),
	}
	if c.PendingOwner != nil && *c.PendingOwner == (common.Address{}) {
		out.PendingOwner = ""
	}
	if c.ImplementationCodeHash != (common.Hash{}) {
		out.ImplementationCodeHash = c.ImplementationCodeHash.Hex()
	}
	return out
}

// runs is the hash of the code that runs: the implementation's, where the contract is a proxy.
func (c Control) runs() string {
	if c.ImplementationCodeHash != "" {
		return c.ImplementationCodeHash
	}
	return c.CodeHash
}

// controlled judges who controls the contract: against the policy where that says it, else against the baseline.
func (t *target) controlled(c ChainOptions, state *ethrpc.State) {
	read, known := state.Control[t.address]
	if !known {
		return
	}
	if read.Err != nil {
		t.reasons = append(t.reasons, fmt.Sprintf("who controls the contract could not be read: %v", read.Err))
		return
	}
	is := controlOf(read)
	t.control, t.judged = &is, true
	want := c.Wanted[t.address]
	// A provider that answers no call must not make drift: what is gone has to be proven.
	gone := func(what, is, was string) bool {
		lost := is == "" && was != "" && !read.Proven
		if lost {
			t.judged = false
			t.reasons = append(t.reasons, fmt.Sprintf("%s was %s, and that there is none now is not proven", what, was))
		}
		return lost
	}
	pinned := func(k Kind, what, is, want string) {
		if is != want && !gone(what, is, want) {
			t.fault(k, "%s is %s, the policy says %s", what, orNone(is), want)
		}
	}
	if want.Owner != nil {
		pinned(OwnerChanged, "the owner", is.Owner, want.Owner.Hex())
	}
	if want.Implementation != nil {
		pinned(ImplementationChanged, "the implementation", is.Implementation, want.Implementation.Hex())
	}
	if want.CodeHash != nil {
		pinned(CodeChanged, "the hash of the code that runs", is.runs(), want.CodeHash.Hex())
	}
	if c.Baselines == nil {
		return
	}
	b, known := c.Baselines.Baseline(t.address)
	if !known {
		return
	}
	t.baseline = &b
	moved := func(k Kind, what, is, was string) {
		if is != was && !gone(what, is, was) {
			t.fault(k, "%s is %s, and was %s since %s", what, orNone(is), orNone(was), b.Since.UTC().Format("2006-01-02 15:04 MST"))
		}
	}
	if want.Owner == nil {
		moved(OwnerChanged, "the owner", is.Owner, b.Control.Owner)
	}
	if want.Implementation == nil {
		moved(ImplementationChanged, "the implementation", is.Implementation, b.Control.Implementation)
	}
	if moved(CodeChanged, "the hash of the contract's own code", is.CodeHash, b.Control.CodeHash); t.faulty(CodeChanged) {
		return
	}
	// Another implementation has other code: that is one finding.
	if want.CodeHash == nil && is.Implementation == b.Control.Implementation {
		moved(CodeChanged, "the hash of the implementation's code", is.ImplementationCodeHash, b.Control.ImplementationCodeHash)
	}
}

// baselineStands tells whether the target was judged against the baseline as it is.
func (t *target) baselineStands(c ChainOptions) bool {
	if c.Baselines == nil || t.control == nil {
		return true
	}
	b, known := c.Baselines.Baseline(t.address)
	return known && t.baseline != nil && b.Control == t.baseline.Control && b.Accepted == t.baseline.Accepted && b.Since.Equal(t.baseline.Since)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// begin keeps as baseline what is seen for the first time.
func (p *pass) begin() {
	if p.chain.Baselines == nil || p.state == nil {
		return
	}
	for _, t := range p.targets {
		if t.control == nil || t.baseline != nil || t.kept {
			continue
		}
		b := Baseline{Control: *t.control, Since: p.began}
		if err := p.chain.Baselines.Begin(t.address, b); err != nil {
			p.errors = append(p.errors, SourceError{StageInternal, self, fmt.Sprintf("keeping who controls %s: %v", t.address, err)})
			continue
		}
		t.baseline = &b
	}
}
