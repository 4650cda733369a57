package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// size is how much there is to audit: contracts, spread over chains, with so many entries each.
type size struct{ contracts, entries, chains int }

func (s size) String() string {
	if s.chains == 1 {
		return fmt.Sprintf("%dx%d", s.contracts, s.entries)
	}
	return fmt.Sprintf("%dx%d@%d", s.contracts, s.entries, s.chains)
}

func parseSize(text string) (s size, err error) {
	s.chains = 1
	if n, _ := fmt.Sscanf(text, "%dx%d@%d", &s.contracts, &s.entries, &s.chains); n < 2 || s.String() != text || min(s.contracts, s.entries, s.chains) < 1 || s.chains > s.contracts {
		return s, fmt.Errorf("size %q is not CONTRACTSxENTRIES or CONTRACTSxENTRIES@CHAINS, such as 1x1000 or 100x1000@8", text)
	}
	return s, nil
}

// entry is one id of one list of a contract, and what the contract says of it.
type entry struct {
	id      common.Hash
	device  bool
	allowed bool
}

// entries are those of the contract number c. A fifth are devices, the rest images; a tenth were allowed once, and are
// no longer.
func (s size) entriesOf(c int) []entry {
	list := make([]entry, s.entries)
	for i := range list {
		list[i] = entry{crypto.Keccak256Hash([]byte(strconv.Itoa(c) + "/" + strconv.Itoa(i))), i%5 == 0, i%10 != 9}
	}
	return list
}

// chainOf is the chain that has the contract number c.
func (s size) chainOf(c int) int { return c % s.chains }

func chainName(i int) string { return fmt.Sprintf("chain%d", i) }

func has(sizes []size, s size) bool { return slices.Contains(sizes, s) }

// distinct is every size of some lists once, in their order.
func distinct(lists ...[]size) (all []size) {
	for _, s := range slices.Concat(lists...) {
		if !has(all, s) {
			all = append(all, s)
		}
	}
	return all
}

func intersection(a, b []size) []size {
	return slices.DeleteFunc(slices.Clone(a), func(s size) bool { return !has(b, s) })
}

func without(a, b []size) []size {
	return slices.DeleteFunc(slices.Clone(a), func(s size) bool { return has(b, s) })
}
