package ethrpc

import (
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// The getters of the allowlists in the main line of DstackKms (since May 2025): bytes32 in, bool out.
const (
	allowedDevice  = "kmsAllowedDeviceIds(bytes32)"
	allowedOSImage = "allowedOsImages(bytes32)"
)

func selector(signature string) []byte { return crypto.Keccak256([]byte(signature))[:4:4] }

// getterCall is a call of a getter. One of a list's getter tells where its answer belongs.
type getterCall struct {
	getter string // of a list; empty: another one
	id     common.Hash
	data   string // selector and argument
}

// listCalls are the calls that a Query's two lists take, each once.
func (q *Query) listCalls() (out []getterCall) {
	if q.CodeOnly {
		return nil
	}
	add := func(getter string, ids []common.Hash) {
		s, seen := selector(getter), make(map[common.Hash]bool, len(ids))
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				out = append(out, getterCall{getter, id, string(append(s, id[:]...))})
			}
		}
	}
	add(allowedDevice, q.Devices)
	add(allowedOSImage, q.OSImages)
	return out
}

// answers are those of a list's getter.
func (r *Reading) answers(getter string) map[common.Hash]Answer {
	if getter == allowedDevice {
		return r.Devices
	}
	return r.OSImages
}

func (r *Reading) answer(c getterCall) Answer       { return r.answers(c.getter)[c.id] }
func (r *Reading) setAnswer(c getterCall, a Answer) { r.answers(c.getter)[c.id] = a }

// newReading has room for the answers.
func (q *Query) newReading() Reading {
	r := Reading{Contract: q.Contract}
	if !q.CodeOnly {
		r.Devices, r.OSImages = make(map[common.Hash]Answer, len(q.Devices)), make(map[common.Hash]Answer, len(q.OSImages))
	}
	return r
}

// equal reports whether another Query asks for the same, in the same order.
func (q *Query) equal(o *Query) bool {
	return q.Contract == o.Contract && q.Control == o.Control && q.CodeOnly == o.CodeOnly && slices.Equal(q.Devices, o.Devices) &&
		slices.Equal(q.OSImages, o.OSImages) && slices.Equal(q.AggregatedMRs, o.AggregatedMRs) && slices.Equal(q.Apps, o.Apps) && slices.Equal(q.Slots, o.Slots)
}

// clone copies what the caller may change.
func (q *Query) clone() Query {
	c := *q
	c.Devices, c.OSImages, c.AggregatedMRs = slices.Clone(q.Devices), slices.Clone(q.OSImages), slices.Clone(q.AggregatedMRs)
	c.Apps, c.Slots = slices.Clone(q.Apps), slices.Clone(q.Slots)
	return c
}

// slots are those to prove whatever the contract's code reads.
func (q *Query) slots() []common.Hash {
	if q.CodeOnly {
		return nil
	}
	return slices.Concat(wellKnown, q.Slots)
}

// coverageGetters are the getters of everything that the contract stores apart from its mappings. The first ones are those
// of Control. Older generations lack some; a call of what is not there explains nothing and does no harm.
var coverageGetters = []string{"owner()", "pendingOwner()", "gatewayAppId()", "kmsInfo()", "appImplementation()"}

// coverageCalls are calls of which the slots matter that they read: those are part of what the contract is known to store.
func (q *Query) coverageCalls() (out []getterCall) {
	if q.CodeOnly {
		return nil
	}
	add := func(getter string, argument []byte) {
		out = append(out, getterCall{data: string(append(selector(getter), argument...))})
	}
	for _, g := range coverageGetters {
		add(g, nil)
	}
	for _, mr := range q.AggregatedMRs {
		add("kmsAllowedAggregatedMrs(bytes32)", mr[:])
	}
	for _, a := range q.Apps {
		add("registeredApps(address)", common.LeftPadBytes(a[:], 32))
	}
	return out
}

// ethCall is a call of a contract at a pinned block.
func ethCall(at pin, contract common.Address, data string) *transport.Call {
	return &transport.Call{Method: "eth_call", Args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(data)}, at.ref()}}
}

func getCode(at pin, addr common.Address) *transport.Call {
	return &transport.Call{Method: "eth_getCode", Args: []any{addr, at.ref()}}
}

// answerOf reads what a getter of a list said.
func answerOf(c *transport.Call) Answer {
	b, err := c.Bytes()
	if err != nil {
		return Answer{Err: err}
	}
	return boolAnswer(b)
}

// boolAnswer reads an ABI bool strictly: 32 bytes, 31 of them zero, the last 0 or 1. An account without code answers
// with no bytes at all, and that is no answer.
func boolAnswer(b []byte) Answer {
	if len(b) != 32 {
		return Answer{Err: fmt.Errorf("the answer has %d bytes, want the 32 of a bool", len(b))}
	}
	switch word := common.BytesToHash(b); word {
	case common.Hash{}:
		return Answer{}
	case common.Hash{31: 1}:
		return Answer{Allowed: true}
	default:
		return Answer{Err: fmt.Errorf("the answer %s is neither 0 nor 1", word)}
	}
}
