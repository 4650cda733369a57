package l1_test

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
)

func arguments(t *testing.F, types ...string) (out abi.Arguments) {
	for _, name := range types {
		typ, err := abi.NewType(name, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, abi.Argument{Type: typ})
	}
	return out
}

// FuzzDecode checks that decode accepts exactly the encodings of go-ethereum.
func FuzzDecode(f *testing.F) {
	text, words, small := arguments(f, "bytes"), arguments(f, "uint32", "uint64", "address"), arguments(f, "bool", "uint8", "bytes32")
	for _, seed := range [][]byte{nil, {1, 2, 3}, bytes.Repeat([]byte{9}, 64)} {
		b, err := text.Pack(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, seed := range []int64{0, 1, 255, 1 << 33} {
		b := common.BigToHash(big.NewInt(seed)).Bytes()
		f.Add(bytes.Repeat(b, 3))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw []byte
		var kind uint32
		var number uint64
		var addr common.Address
		var yes bool
		var status uint8
		var root common.Hash
		for _, decoded := range []struct {
			types  abi.Arguments
			err    error
			values func() []any
		}{
			{text, l1.Decode(b, &raw), func() []any { return []any{raw} }},
			{words, l1.Decode(b, &kind, &number, &addr), func() []any { return []any{kind, number, addr} }},
			{small, l1.Decode(b, &yes, &status, &root), func() []any { return []any{yes, status, root} }},
		} {
			same := false
			if values, err := decoded.types.Unpack(b); err == nil {
				again, err := decoded.types.Pack(values...)
				same = err == nil && bytes.Equal(again, b)
			}
			if (decoded.err == nil) != same {
				t.Fatalf("%x: decoded with %v, and go-ethereum encodes it so: %t", b, decoded.err, same)
			}
			if decoded.err != nil {
				continue
			}
			if again, err := decoded.types.Pack(decoded.values()...); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x is decoded as what is encoded as %x (%v)", b, again, err)
			}
		}
	})
}

// FuzzConfirm checks that only the true headers confirm a block.
func FuzzConfirm(f *testing.F) {
	headers := branch(4, 1, common.Hash{})
	var down []byte // the headers from block 103 to 100, one after the other
	for _, h := range []int{3, 2, 1, 0} {
		b, err := rlp.EncodeToBytes(headers[h])
		if err != nil {
			f.Fatal(err)
		}
		down = append(down, b...)
	}
	f.Add(down)
	f.Add(append([]byte{0xc0}, down...))
	p := l1.Point{Trust: l1.Proposed, Block: 103, Root: rootOf(headers[3])}
	f.Fuzz(func(t *testing.T, b []byte) {
		var given [][]byte
		for rest := b; len(rest) > 0 && len(given) < 6; {
			_, _, after, err := rlp.Split(rest)
			if err != nil {
				after = nil
			}
			given, rest = append(given, rest[:len(rest)-len(after)]), after
		}
		outcome, _, err := p.Confirm(100, headers[0].Hash(), given)
		if (outcome == l1.Confirmed) != bytes.Equal(b, down) || (err == nil) != (outcome == l1.Confirmed) {
			t.Fatalf("%x: outcome %d (%v)", b, outcome, err)
		}
	})
}
