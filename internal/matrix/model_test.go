package matrix_test

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

// lists are which ids of the two lists are in.
type lists [2][ids]bool

// state is a contract as it must be, by what was done to it. Its zero value is no contract.
type state struct {
	code  bool
	impl  string
	owner string
	store [2]lists // where Plain and Backdoor keep them, and where Moved does
	named lists    // by an event
}

// snapshot is all contracts of a case at a block.
type snapshot [contracts]state

func (s *state) active() *lists {
	if s.impl == testchain.Moved {
		return &s.store[1]
	}
	return &s.store[0]
}

func (s *state) idle() *lists {
	if s.impl == testchain.Moved {
		return &s.store[0]
	}
	return &s.store[1]
}

func (s *state) allows(list, id int) bool { return s.active()[list][id] }

// takes tells whether the contract lets the operation happen.
func (s *state) takes(o op) bool {
	switch o.What {
	case sneakIn, sneakOut:
		return s.impl == testchain.Backdoor
	default:
		return s.code
	}
}

func (s *state) apply(o op) {
	switch o.What {
	case add, remove:
		s.active()[o.List][o.ID] = o.What == add
		s.named[o.List][o.ID] = true
	case sneakIn, sneakOut:
		s.active()[o.List][o.ID] = o.What == sneakIn
	case toPlain, toDoor, toMoved:
		s.impl = o.What
	case handOver:
		s.owner = other(s.owner)
	}
}

func other(owner string) string {
	if owner == "owner" {
		return "stranger"
	}
	return "owner"
}

// idOf is the id that stands for a number.
func idOf(list, id int) common.Hash {
	return crypto.Keccak256Hash(fmt.Appendf(nil, "list %d, id %d", list, id))
}

var listNames = [2]string{"device", "os_image"}

// txs are the transactions of an operation.
func (n *node) txs(o op, at common.Address, s state) ([]tx, error) {
	methods := map[string][2]string{
		add:      {"addKmsDevice", "addOsImageHash"},
		remove:   {"removeKmsDevice", "removeOsImageHash"},
		sneakIn:  {"sneakDevice", "sneakImage"},
		sneakOut: {"sneakDevice", "sneakImage"},
	}
	one := func(from, method string, args ...any) ([]tx, error) {
		t, err := n.call(from, at, method, args...)
		return []tx{t}, err
	}
	switch o.What {
	case add, remove:
		return one(s.owner, methods[o.What][o.List], idOf(o.List, o.ID))
	case sneakIn, sneakOut:
		return one(s.owner, methods[o.What][o.List], idOf(o.List, o.ID), o.What == sneakIn)
	case app:
		return one(s.owner, "registerApp", common.Address{1, byte(o.ID)})
	case mr:
		return one(s.owner, "addKmsAggregatedMr", common.Hash{2, byte(o.ID)})
	case info:
		return one(s.owner, "setGatewayAppId", fmt.Sprintf("0x%040x, and so on, so that it is long", o.ID))
	case handOver:
		offer, err := n.call(s.owner, at, "transferOwnership", testchain.Address(other(s.owner)))
		if err != nil {
			return nil, err
		}
		take, err := n.call(other(s.owner), at, "acceptOwnership")
		return []tx{offer, take}, err
	default:
		return one(s.owner, "upgradeToAndCall", n.impl[o.What], []byte{})
	}
}
