package l1

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// query is a list of getter calls with the destinations of their results.
type query struct {
	calls   []proof.Call
	getters []getter
	err     error // of the first getter without a usable answer
}

type getter struct {
	signature string
	into      []any
}

// get adds a call of a getter without an argument (nil), or with one number or address. decode stores its result in into.
func (q *query) get(of common.Address, signature string, arg []byte, into ...any) {
	data := crypto.Keccak256([]byte(signature))[:4:4]
	if arg != nil {
		data = append(data, common.LeftPadBytes(arg, common.HashLength)...)
	}
	q.calls = append(q.calls, proof.Call{To: of, Data: data})
	q.getters = append(q.getters, getter{signature, into})
}

// run makes the calls of all queries together. An unusable answer sets the error of its query.
func run(ctx context.Context, caller Caller, queries ...*query) error {
	var calls []proof.Call
	for _, q := range queries {
		calls = append(calls, q.calls...)
	}
	answers, err := caller.Call(ctx, calls...)
	if err == nil && len(answers) != len(calls) {
		err = fmt.Errorf("%d calls got %d answers", len(calls), len(answers))
	}
	if err != nil {
		return err
	}
	for _, q := range queries {
		for i, g := range q.getters {
			err := answers[i].Err
			if err == nil {
				err = decode(answers[i].Output, g.into...)
			}
			if err != nil && q.err == nil {
				q.err = fmt.Errorf("reading %s of %s: %w", g.signature, q.calls[i].To, err)
			}
		}
		answers = answers[len(q.calls):]
	}
	return nil
}

// decode decodes an ABI encoding strictly: `bytes` into one *[]byte, or each word into a *common.Hash, *common.Address, *bool,
// *uint8, *uint32 or *uint64. A number that does not fit is an error.
func decode(output []byte, into ...any) error {
	if b, ok := into[0].(*[]byte); ok {
		return decodeBytes(output, b)
	}
	if len(output) != common.HashLength*len(into) {
		return fmt.Errorf("the answer has %d bytes, want %d", len(output), common.HashLength*len(into))
	}
	for i, v := range into {
		w := common.Hash(output[common.HashLength*i:])
		n, size := binary.BigEndian.Uint64(w[24:]), 0 // size is the number of bytes that the type takes
		switch v := v.(type) {
		case *common.Hash:
			*v, size = w, 32
		case *common.Address:
			*v, size = common.BytesToAddress(w[:]), 20
		case *bool:
			if *v, size = n == 1, 1; n > 1 {
				return fmt.Errorf("the answer %s is neither 0 nor 1", w)
			}
		case *uint8:
			*v, size = uint8(n), 1
		case *uint32:
			*v, size = uint32(n), 4
		case *uint64:
			*v, size = n, 8
		}
		if !zero(w[:common.HashLength-size]) {
			return fmt.Errorf("the answer %s does not fit into %d bytes", w, size)
		}
	}
	return nil
}

func decodeBytes(output []byte, into *[]byte) error {
	var offset, n uint64
	if err := decode(output[:min(len(output), 64)], &offset, &n); err != nil {
		return err
	}
	content := output[64:]
	if offset != 32 || n > uint64(len(content)) || (n+31)/32*32 != uint64(len(content)) || !zero(content[n:]) {
		return fmt.Errorf("the answer is not the encoding of %d bytes", n)
	}
	*into = content[:n]
	return nil
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
