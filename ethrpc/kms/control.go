package kms

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
)

// Field is one thing that a contract says of itself.
type Field[T any] struct {
	Value   T
	Present bool  // false without Err: the contract has no such getter, as older generations have none for some
	Err     error // why it could not be read
}

// Control is who controls a contract, what runs there, and what the contract says of its KMS.
type Control struct {
	Owner                Field[common.Address]
	PendingOwner         Field[common.Address] // zero and Present: the contract is offered to nobody
	Implementation       Field[common.Address] // ERC-1967; not Present: the contract is no proxy
	GatewayAppID         Field[string]
	K256Pubkey, CAPubkey Field[[]byte]

	CodeHash               common.Hash // of the contract itself
	ImplementationCodeHash common.Hash // zero without CodeErr: there is no implementation
	CodeErr                error       // why the implementation's code could not be read
}

// SetGetter takes what call i of ControlCalls returned. Neither data nor err: it reverted, or returned no bytes: there is no
// such getter.
func (c *Control) SetGetter(i int, data []byte, err error) {
	switch i {
	case 0:
		c.Owner = field(i, data, err, DecodeAddress)
	case 1:
		c.PendingOwner = field(i, data, err, DecodeAddress)
	case 2:
		c.GatewayAppID = field(i, data, err, unpack[string](textType, 0))
	case 3:
		c.K256Pubkey, c.CAPubkey = field(i, data, err, unpack[[]byte](infoType, 0)), field(i, data, err, unpack[[]byte](infoType, 1))
	}
}

func field[T any](i int, data []byte, err error, decode func([]byte) (T, error)) (f Field[T]) {
	if err == nil && len(data) == 0 {
		return f
	}
	if err == nil {
		f.Value, err = decode(data)
	}
	if f.Present = err == nil; !f.Present {
		f.Err = fmt.Errorf("reading %s: %w", fixedGetters[i], err)
	}
	return f
}

// unpack decodes the argument of a number.
func unpack[T any](types abi.Arguments, i int) func([]byte) (T, error) {
	return func(b []byte) (out T, err error) {
		v, err := types.Unpack(b)
		if err != nil {
			return out, err
		}
		return v[i].(T), nil
	}
}

// SetImplementation takes the word of ImplementationSlot, or why it could not be read.
func (c *Control) SetImplementation(word common.Hash, err error) {
	f := &c.Implementation
	if err == nil && word != (common.Hash{}) {
		f.Value, err = DecodeAddress(word[:])
		f.Present = err == nil
	}
	if err != nil {
		f.Err = fmt.Errorf("reading the implementation's slot: %w", err)
		c.CodeErr = f.Err
	}
}

// Equal reports whether two providers say the same.
func (c *Control) Equal(o *Control) bool {
	return sameField(c.Owner, o.Owner) && sameField(c.PendingOwner, o.PendingOwner) && sameField(c.Implementation, o.Implementation) &&
		sameField(c.GatewayAppID, o.GatewayAppID) && sameField(asText(c.K256Pubkey), asText(o.K256Pubkey)) && sameField(asText(c.CAPubkey), asText(o.CAPubkey)) &&
		c.CodeHash == o.CodeHash && c.ImplementationCodeHash == o.ImplementationCodeHash && (c.CodeErr == nil) == (o.CodeErr == nil)
}

func sameField[T comparable](a, b Field[T]) bool {
	return a.Value == b.Value && a.Present == b.Present && (a.Err == nil) == (b.Err == nil)
}

func asText(f Field[[]byte]) Field[string] { return Field[string]{string(f.Value), f.Present, f.Err} }

func (c *Control) String() string {
	show := func(f Field[common.Address]) string {
		switch {
		case f.Err != nil:
			return "nobody knows whom"
		case !f.Present:
			return "nobody"
		}
		return f.Value.Hex()
	}
	return fmt.Sprintf("owned by %s, offered to %s, implemented by %s with code %s", show(c.Owner), show(c.PendingOwner), show(c.Implementation), c.ImplementationCodeHash)
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

// DecodeAddress reads an ABI address strictly.
func DecodeAddress(b []byte) (common.Address, error) {
	if len(b) != 32 || !bytes.Equal(b[:12], make([]byte, 12)) {
		return common.Address{}, errNoAddress
	}
	return common.BytesToAddress(b), nil
}
