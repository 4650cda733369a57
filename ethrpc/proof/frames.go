package proof

import (
	"bytes"
	"context"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/vm"
)

// Frame is one run of an account's code within a call.
type Frame struct {
	Code      common.Address
	Depth     int
	Delegated bool           // by DELEGATECALL or CALLCODE: it ran over its caller's storage
	Forwarded bool           // its input begins with its caller's whole input
	Gave      common.Address // the output, if it is an address
}

// Frames traces a call that misses no state, and returns its frames in the order in which they began. Tracing makes a call
// several times slower.
func (w *VerifiedState) Frames(ctx context.Context, to common.Address, data []byte) []Frame {
	var frames []Frame
	var open []int // by depth: the index of the frame
	var inputs [][]byte
	m := newMachine(w, &tracing.Hooks{
		OnEnter: func(depth int, op byte, _, to common.Address, input []byte, _ uint64, _ *big.Int) {
			f := Frame{Code: to, Depth: depth, Delegated: vm.OpCode(op) == vm.DELEGATECALL || vm.OpCode(op) == vm.CALLCODE}
			if depth > 0 {
				f.Forwarded = bytes.HasPrefix(input, inputs[depth-1])
			}
			open, inputs = append(open[:depth], len(frames)), append(inputs[:depth], bytes.Clone(input))
			frames = append(frames, f)
		},
		OnExit: func(depth int, output []byte, _ uint64, _ error, _ bool) {
			if word := common.LeftPadBytes(output, common.HashLength); len(word) == common.HashLength && bytes.Equal(word[:12], make([]byte, 12)) {
				frames[open[depth]].Gave = common.BytesToAddress(word)
			}
		},
	})
	_, _ = m.call(ctx, to, data, nil)
	return frames
}
