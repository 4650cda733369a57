package ethrpc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// Control is who controls a contract, what runs there, and what the contract says of its KMS. What the contract has no
// getter for, as older generations have none for some, is nil.
type Control struct {
	Owner                  *common.Address
	PendingOwner           *common.Address // zero: the contract is offered to nobody
	Implementation         *common.Address // ERC-1967; nil: the contract is no proxy
	CodeHash               common.Hash     // of the contract itself
	ImplementationCodeHash common.Hash     // zero: there is no implementation
	GatewayAppID           *string
	K256Pubkey, CAPubkey   []byte

	Proven bool
	Err    error // why something of it could not be read; the rest is good
}

// equal tells whether two providers say the same.
func (c Control) equal(o Control) bool {
	same := func(a, b *common.Address) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return same(c.Owner, o.Owner) && same(c.PendingOwner, o.PendingOwner) && same(c.Implementation, o.Implementation) &&
		c.CodeHash == o.CodeHash && c.ImplementationCodeHash == o.ImplementationCodeHash &&
		text(c.GatewayAppID) == text(o.GatewayAppID) && bytes.Equal(c.K256Pubkey, o.K256Pubkey) && bytes.Equal(c.CAPubkey, o.CAPubkey) &&
		(c.Err == nil) == (o.Err == nil)
}

func (c Control) String() string {
	show := func(a *common.Address) string {
		if a == nil {
			return "nobody"
		}
		return a.Hex()
	}
	return fmt.Sprintf("owned by %s, offered to %s, implemented by %s with code %s", show(c.Owner), show(c.PendingOwner), show(c.Implementation), c.ImplementationCodeHash)
}

// controls are the getters of Control, and how to take what they return.
var controls = []struct {
	signature string
	take      func(*Control, []byte) error
}{
	{"owner()", func(c *Control, b []byte) (err error) { c.Owner, err = addressWord(b); return err }},
	{"pendingOwner()", func(c *Control, b []byte) (err error) { c.PendingOwner, err = addressWord(b); return err }},
	{"gatewayAppId()", func(c *Control, b []byte) error {
		out, err := textType.Unpack(b)
		if err == nil {
			s := out[0].(string)
			c.GatewayAppID = &s
		}
		return err
	}},
	{"kmsInfo()", func(c *Control, b []byte) error {
		out, err := infoType.Unpack(b)
		if err == nil {
			c.K256Pubkey, c.CAPubkey = out[0].([]byte), out[1].([]byte)
		}
		return err
	}},
}

// What the getters return: a string, and the four parts of kmsInfo.
var textType, infoType = arguments("string"), arguments("bytes", "bytes", "bytes", "bytes")

func arguments(types ...string) (out abi.Arguments) {
	for _, name := range types {
		t, err := abi.NewType(name, "", nil)
		if err != nil {
			panic(err)
		}
		out = append(out, abi.Argument{Type: t})
	}
	return out
}

var errNoAddress = errors.New("the answer is no address")

func addressWord(b []byte) (*common.Address, error) {
	if len(b) != 32 || !bytes.Equal(b[:12], make([]byte, 12)) {
		return nil, errNoAddress
	}
	a := common.BytesToAddress(b)
	return &a, nil
}

// implementationSlot is where a proxy keeps its implementation (ERC-1967).
var implementationSlot = wellKnown[0]

// controlCalls are the calls of a contract's Control, in the order of controls.
func controlCalls(contract common.Address) []Explain {
	var out []Explain
	for _, g := range controls {
		out = append(out, Explain{contract, crypto.Keccak256([]byte(g.signature))[:4]})
	}
	return out
}

// answer takes what getter i returned; nothing at all is as good as a revert: there is no such getter.
func (c *Control) answer(i int, output []byte) {
	if len(output) == 0 {
		return
	}
	if err := controls[i].take(c, output); err != nil {
		c.fail(fmt.Errorf("reading %s: %w", controls[i].signature, err))
	}
}

func (c *Control) fail(err error) {
	if c.Err == nil {
		c.Err = err
	}
}

// implement takes the word of implementationSlot.
func (c *Control) implement(word common.Hash) {
	if word == (common.Hash{}) {
		return
	}
	a, err := addressWord(word[:])
	if err != nil {
		c.fail(fmt.Errorf("reading the implementation's slot: %w", err))
		return
	}
	c.Implementation = a
}

// control tells what is proven of the contract's control.
func (r *proving) control(contract common.Address, codeHash common.Hash) Control {
	c := Control{Proven: true, CodeHash: codeHash}
	for i, e := range controlCalls(contract) {
		c.answer(i, r.outputs[input{e.Contract, string(e.Data)}])
	}
	word, _ := r.world.Value(slotOf(contract, implementationSlot))
	c.implement(word)
	if c.Implementation != nil {
		if a, known := r.world.Account(*c.Implementation); known && a != nil {
			c.ImplementationCodeHash = common.BytesToHash(a.CodeHash)
		}
	}
	return c
}

// believedControl is what a provider says of a contract's control, without proof: first the calls of ask, then, where there is
// an implementation, its code.
type believedControl struct {
	contract common.Address
	getters  []*call
	slot     *call
	code     *call // of the implementation; nil: there is none
	Control
}

func askControl(at pin, contract common.Address) *believedControl {
	b := &believedControl{
		contract: contract,
		slot:     &call{method: "eth_getStorageAt", args: []any{contract, implementationSlot, at.ref()}},
	}
	for _, e := range controlCalls(contract) {
		b.getters = append(b.getters, &call{method: "eth_call", args: []any{map[string]any{"to": e.Contract, "input": hexutil.Bytes(e.Data)}, at.ref()}})
	}
	return b
}

func (b *believedControl) calls() []*call { return append(slices.Clone(b.getters), b.slot) }

// more returns the call that the answers so far lead to; nil: none.
func (b *believedControl) more(at pin) *call {
	if b.slot.err != nil {
		return nil
	}
	word, err := bytesOf(b.slot.result)
	if err == nil && len(word) != 32 {
		err = fmt.Errorf("the answer has %d bytes, want 32", len(word))
	}
	if err != nil {
		b.fail(fmt.Errorf("reading the implementation's slot: %w", err))
		return nil
	}
	if b.implement(common.BytesToHash(word)); b.Implementation != nil {
		b.code = &call{method: "eth_getCode", args: []any{*b.Implementation, at.ref()}}
	}
	return b.code
}

// read reads the answers. The error is of the whole reading: the block is not to be had.
func (b *believedControl) read(at pin, code []byte) (Control, error) {
	b.CodeHash = crypto.Keccak256Hash(code)
	for i, c := range append(slices.Clone(b.getters), b.slot, b.code) {
		if c == nil || c.err == nil {
			continue
		}
		if err := fault(at, c.err); errors.Is(err, errUnknownBlock) || errors.Is(err, ErrNoState) {
			return Control{}, err
		} else if err != nil {
			b.fail(err)
		} else if i >= len(b.getters) {
			b.fail(c.err)
		}
	}
	for i, c := range b.getters {
		if c.err != nil {
			continue
		}
		if out, err := bytesOf(c.result); err != nil {
			b.fail(fmt.Errorf("reading %s: %w", controls[i].signature, err))
		} else if len(out) == 0 {
			// A node that answers nothing at all does so too; a getter that is not there reverts.
			b.fail(fmt.Errorf("reading %s: the answer has no bytes", controls[i].signature))
		} else {
			b.answer(i, out)
		}
	}
	if b.code != nil && b.code.err == nil {
		if code, err := bytesOf(b.code.result); err != nil {
			b.fail(fmt.Errorf("reading the implementation's code: %w", err))
		} else {
			b.ImplementationCodeHash = crypto.Keccak256Hash(code)
		}
	}
	return b.Control, nil
}
