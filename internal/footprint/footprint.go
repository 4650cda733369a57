// Package footprint says what code runs where a contract is called, and what a change of it is.
//
// Nothing here asks anybody. The names are those of a report's JSON.
package footprint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// Role is what an account's code does in the calls of a contract.
type Role string

// The roles, in the order of a report. One account has one role: the first that any of its runs had.
const (
	Proxy          Role = "proxy"          // the contract itself, which hands calls on as they come
	Implementation Role = "implementation" // what calls are handed on to; the contract itself where it hands none on
	Beacon         Role = "beacon"         // it gave the implementation's address
	Library        Role = "library"        // what runs over the storage of its caller, and is no implementation
	Other          Role = "other"          // any other code that ran or was read
)

// Roles has every Role, in its order.
var Roles = []Role{Proxy, Implementation, Beacon, Library, Other}

// Account is an account whose code runs.
type Account struct {
	Address  string `json:"address"` // EIP-55
	Role     Role   `json:"role"`
	CodeHash string `json:"code_hash"` // 0x and 64 lower-case digits
}

// Code is the code that runs where a contract is called.
type Code struct {
	Accounts []Account `json:"code"`                // in the order of Sort
	Complete bool      `json:"footprint,omitempty"` // they are all whose code ran; else those that can be told without running it

	// What releases of rules 2 and 3 wrote instead. Adopt reads it.
	CodeHash               string `json:"code_hash,omitempty"`
	ImplementationCodeHash string `json:"implementation_code_hash,omitempty"`
}

// Adopt makes accounts of what an older release wrote of a contract, whose ERC-1967 implementation it knew.
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

// Difference is what a comparison came to. The zero value: nothing differs.
type Difference struct {
	Changed string // what is another now, in a sentence
	Unseen  string // what could not be compared, and why: that is no change, and not its absence
}

func changed(format string, args ...any) Difference {
	return Difference{Changed: fmt.Sprintf(format, args...)}
}
func unseen(format string, args ...any) Difference {
	return Difference{Unseen: fmt.Sprintf(format, args...)}
}

// Judge compares the code with the hash that is wanted of what the contract hands its calls on to, and with those that are
// wanted of all code. What is nil is not compared.
func (c *Code) Judge(contract string, hash *common.Hash, hashes []common.Hash) (out []Difference) {
	if hash != nil {
		out = append(out, c.handsOnTo(contract, hash.Hex()))
	}
	if hashes != nil {
		out = append(out, c.isAllOf(hashes))
	}
	return out
}

// Since compares with what the code was. Whether further code runs is compared only where both know all that does: without a
// proof less is known, and that is no change. Accounts of the role but are left out.
func (c *Code) Since(was *Code, but Role) Difference {
	for _, a := range c.Accounts {
		switch b := was.At(a.Address); {
		case a.Role == but:
		case b != nil && b.CodeHash != a.CodeHash:
			return changed("the hash of the code of %s (%s) is %s, and was %s", a.Address, a.Role, a.CodeHash, b.CodeHash)
		case b == nil && c.Complete && was.Complete:
			return changed("the code of %s (%s, hash %s) runs, which did not run", a.Address, a.Role, a.CodeHash)
		}
	}
	for _, b := range was.Accounts {
		switch {
		case c.At(b.Address) != nil || b.Role == but:
		case !c.Complete:
			return unseen("the code of %s (%s) ran before, and whether it runs now, and is the same, is not proven", b.Address, b.Role)
		case was.Complete, b.Role == Implementation && c.sharesBeacon(was):
			return changed("the code of %s (%s, hash %s) ran, and does not run now", b.Address, b.Role, b.CodeHash)
		}
	}
	return Difference{}
}

// sharesBeacon reports whether both have a beacon in common: without a proof too, the implementation is known by its name.
func (c *Code) sharesBeacon(o *Code) bool {
	return slices.ContainsFunc(c.In(Beacon), func(a Account) bool { b := o.At(a.Address); return b != nil && b.Role == Beacon })
}

// Completes reports whether the code is what it was, and all of it is known now, which was not.
func (c *Code) Completes(was *Code) bool {
	return c.Complete && !was.Complete && c.Since(was, "") == Difference{}
}

// Within reports whether every account is one of others, with the same code.
func (c *Code) Within(o *Code) bool {
	return !slices.ContainsFunc(c.Accounts, func(a Account) bool { b := o.At(a.Address); return b == nil || b.CodeHash != a.CodeHash })
}

// handsOnTo compares the code that calls of the contract are handed on to, or its own where they are not, with the hash that
// it is to have.
func (c *Code) handsOnTo(contract, hash string) Difference {
	runs := c.In(Implementation)
	for _, a := range runs {
		switch {
		case a.CodeHash == hash:
		case a.Address == contract && !c.Complete:
			return unseen("the contract's own code is not what the policy says, and what it may hand calls on to is not proven")
		default:
			return changed("the hash of the code that runs is %s, the policy says %s", a.CodeHash, hash)
		}
	}
	switch {
	case len(runs) > 0:
		return Difference{}
	case c.Complete:
		return changed("no implementation's code runs, the policy says %s", hash)
	default:
		return unseen("which implementation's code runs is not known")
	}
}

// isAllOf compares the hashes of all code that runs with those that it is to have.
func (c *Code) isAllOf(hashes []common.Hash) Difference {
	want, runs := map[string]bool{}, map[string]bool{}
	for _, h := range hashes {
		want[h.Hex()] = true
	}
	for _, a := range c.Accounts {
		if runs[a.CodeHash] = true; !want[a.CodeHash] {
			return changed("the hash of the code of %s (%s) is %s, which is none of the policy's code_hashes", a.Address, a.Role, a.CodeHash)
		}
	}
	for _, h := range hashes {
		switch {
		case runs[h.Hex()]:
		case c.Complete:
			return changed("no code with the hash %s runs, which is one of the policy's code_hashes", h)
		default:
			return unseen("that code with the hash %s runs, as the policy says, is not proven", h)
		}
	}
	return Difference{}
}

// Runs compares the account that the policy wants for the implementation with all that ran: a slot may name one whose code
// did not.
func (c *Code) Runs(address string) Difference {
	if c.At(address) == nil {
		return changed("the code of the implementation %s, which the policy wants, does not run", address)
	}
	return Difference{}
}

// Only returns what alone calls of the contract are handed on to; empty: that is several accounts, none, or not known.
func (c *Code) Only(contract string) string {
	if runs := c.In(Implementation); c.Complete && len(runs) == 1 && runs[0].Address != contract {
		return runs[0].Address
	}
	return ""
}
