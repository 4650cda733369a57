// Package footprint describes which code runs when a contract is called, and what counts as a change of it. It does no I/O.
package footprint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// Role is what an account's code does in the calls of a contract.
type Role string

// The roles, in report order. An account has one role: the first of these that any of its runs had.
const (
	Proxy          Role = "proxy"          // the contract itself, if it delegates calls unchanged
	Implementation Role = "implementation" // what the proxy delegates to, or the contract itself if it delegates nothing
	Beacon         Role = "beacon"         // returned the implementation's address
	Library        Role = "library"        // runs over its caller's storage and is not an implementation
	Other          Role = "other"          // any other code that ran or was read
)

// Roles lists every Role, in report order.
var Roles = []Role{Proxy, Implementation, Beacon, Library, Other}

// Account is an account whose code runs.
type Account struct {
	Address  string `json:"address"` // EIP-55
	Role     Role   `json:"role"`
	CodeHash string `json:"code_hash"` // 0x and 64 lower-case digits
}

// Code is the code that runs when a contract is called.
type Code struct {
	Accounts []Account `json:"code"`                // sorted by Sort
	Complete bool      `json:"footprint,omitempty"` // Accounts has every account whose code ran, not only those known without running it

	// Written by rules 2 and 3 instead of Accounts. Adopt converts them.
	CodeHash               string `json:"code_hash,omitempty"`
	ImplementationCodeHash string `json:"implementation_code_hash,omitempty"`
}

// Adopt converts the hashes that an older release wrote to Accounts. The implementation is the ERC-1967 one, or empty.
func (c *Code) Adopt(contract, implementation string) {
	if len(c.Accounts) == 0 && c.CodeHash != "" {
		c.Accounts = []Account{{contract, Implementation, c.CodeHash}}
		if implementation != "" && c.ImplementationCodeHash != "" {
			c.Accounts[0].Role = Proxy
			c.Accounts = append(c.Accounts, Account{implementation, Implementation, c.ImplementationCodeHash})
		}
	}
	c.CodeHash, c.ImplementationCodeHash = "", ""
	if c.Accounts == nil {
		c.Accounts = []Account{}
	}
}

// Sort puts the contract first, then orders by role and address.
func (c *Code) Sort(contract string) {
	slices.SortFunc(c.Accounts, func(a, b Account) int {
		first := map[bool]int{true: 0, false: 1}
		return cmp.Or(first[a.Address == contract]-first[b.Address == contract], slices.Index(Roles, a.Role)-slices.Index(Roles, b.Role), cmp.Compare(a.Address, b.Address))
	})
}

// At returns the account at an address, or nil.
func (c *Code) At(address string) *Account {
	if i := slices.IndexFunc(c.Accounts, func(a Account) bool { return a.Address == address }); i >= 0 {
		return &c.Accounts[i]
	}
	return nil
}

// In lists the accounts of a role.
func (c *Code) In(r Role) []Account {
	return slices.DeleteFunc(slices.Clone(c.Accounts), func(a Account) bool { return a.Role != r })
}

// Difference is the result of a comparison. The zero value means no difference.
type Difference struct {
	Changed string // what changed, in a sentence
	Unseen  string // what could not be compared, and why: there may or may not be a change
}

func changed(format string, args ...any) Difference {
	return Difference{Changed: fmt.Sprintf(format, args...)}
}
func unseen(format string, args ...any) Difference {
	return Difference{Unseen: fmt.Sprintf(format, args...)}
}

// Judge compares the implementation's code with hash, and all code with hashes. A nil argument is not compared.
func (c *Code) Judge(contract string, hash *common.Hash, hashes []common.Hash) (out []Difference) {
	if hash != nil {
		out = append(out, c.handsOnTo(contract, hash.Hex()))
	}
	if hashes != nil {
		out = append(out, c.isAllOf(hashes))
	}
	return out
}

// Since compares the code with earlier code, leaving out accounts of the role but. Additional code counts as a change only if
// both are complete: without a proof fewer accounts are known, which is not a change.
func (c *Code) Since(was *Code, but Role) Difference {
	for _, a := range c.Accounts {
		switch b := was.At(a.Address); {
		case a.Role == but:
		case b != nil && b.CodeHash != a.CodeHash:
			return changed("the code of %s (%s) has hash %s, but had %s", a.Address, a.Role, a.CodeHash, b.CodeHash)
		case b == nil && c.Complete && was.Complete:
			return changed("the code of %s (%s, hash %s) runs, but did not run before", a.Address, a.Role, a.CodeHash)
		}
	}
	for _, b := range was.Accounts {
		switch {
		case c.At(b.Address) != nil || b.Role == but:
		case !c.Complete:
			return unseen("the code of %s (%s) ran before, and it is not proven that it still runs unchanged", b.Address, b.Role)
		case was.Complete, b.Role == Implementation && c.sharesBeacon(was):
			return changed("the code of %s (%s, hash %s) no longer runs", b.Address, b.Role, b.CodeHash)
		}
	}
	return Difference{}
}

// sharesBeacon reports whether both have a beacon in common. A beacon names the implementation even without a proof.
func (c *Code) sharesBeacon(o *Code) bool {
	return slices.ContainsFunc(c.In(Beacon), func(a Account) bool { b := o.At(a.Address); return b != nil && b.Role == Beacon })
}

// Completes reports whether the code is unchanged and complete, while was is not complete.
func (c *Code) Completes(was *Code) bool {
	return c.Complete && !was.Complete && c.Since(was, "") == Difference{}
}

// Within reports whether o has every account, with the same code.
func (c *Code) Within(o *Code) bool {
	return !slices.ContainsFunc(c.Accounts, func(a Account) bool { b := o.At(a.Address); return b == nil || b.CodeHash != a.CodeHash })
}

// handsOnTo compares hash with that of the code that the contract delegates to, or of its own code if it does not delegate.
func (c *Code) handsOnTo(contract, hash string) Difference {
	runs := c.In(Implementation)
	for _, a := range runs {
		switch {
		case a.CodeHash == hash:
		case a.Address == contract && !c.Complete:
			return unseen("the contract's own code differs from the policy, and it is not proven which code it delegates to")
		default:
			return changed("the code that runs has hash %s, but the policy says %s", a.CodeHash, hash)
		}
	}
	switch {
	case len(runs) > 0:
		return Difference{}
	case c.Complete:
		return changed("no implementation's code runs, but the policy wants hash %s", hash)
	default:
		return unseen("it is not known which implementation's code runs")
	}
}

// isAllOf compares the hashes of all code that runs with those wanted.
func (c *Code) isAllOf(hashes []common.Hash) Difference {
	want, runs := map[string]bool{}, map[string]bool{}
	for _, h := range hashes {
		want[h.Hex()] = true
	}
	for _, a := range c.Accounts {
		if runs[a.CodeHash] = true; !want[a.CodeHash] {
			return changed("the code of %s (%s) has hash %s, which is not in the policy's code_hashes", a.Address, a.Role, a.CodeHash)
		}
	}
	for _, h := range hashes {
		switch {
		case runs[h.Hex()]:
		case c.Complete:
			return changed("the policy's code_hashes contains %s, but no code with that hash runs", h)
		default:
			return unseen("the policy's code_hashes contains %s, but it is not proven that code with that hash runs", h)
		}
	}
	return Difference{}
}

// Runs checks that the code of the policy's implementation ran: the ERC-1967 slot may name an account whose code does not.
func (c *Code) Runs(address string) Difference {
	if c.At(address) == nil {
		return changed("the policy's implementation is %s, but its code does not run", address)
	}
	return Difference{}
}

// Only returns the account that the contract delegates to, or "" if it delegates to none or several, or that is unknown.
func (c *Code) Only(contract string) string {
	if runs := c.In(Implementation); c.Complete && len(runs) == 1 && runs[0].Address != contract {
		return runs[0].Address
	}
	return ""
}
