package proof

import "github.com/ethereum/go-ethereum/core/vm"

// volatile are the instructions whose answer may change while code and storage stay.
var volatile = [256]bool{
	vm.BLOCKHASH: true, vm.COINBASE: true, vm.TIMESTAMP: true, vm.NUMBER: true, vm.DIFFICULTY: true,
	vm.GASLIMIT: true, vm.BASEFEE: true, vm.BLOBBASEFEE: true, vm.SLOTNUM: true,
	vm.BALANCE: true, vm.SELFBALANCE: true,
}

// ends are the instructions after which only a jump goes on.
var ends = [256]bool{vm.STOP: true, vm.JUMP: true, vm.RETURN: true, vm.REVERT: true, vm.INVALID: true, vm.SELFDESTRUCT: true}

// mayBeVolatile reports whether code has a volatile instruction where a run can come. Where not, runs need no watching,
// which makes each several times slower. Instructions begin where the machine's own analysis of jumps says: at the start,
// and after each other but for what PUSH takes along.
func mayBeVolatile(code []byte) bool {
	reached := true
	for i := 0; i < len(code); i++ {
		op := vm.OpCode(code[i])
		reached = reached || op == vm.JUMPDEST
		switch {
		case reached && volatile[op]:
			return true
		case op.IsPush() && op != vm.PUSH0:
			i += int(op - vm.PUSH0)
		case ends[op]:
			reached = false
		}
	}
	return false
}

// code is an account's code.
type code struct {
	bytes    []byte
	volatile bool // perhaps
}

func newCode(b []byte) code { return code{b, mayBeVolatile(b)} }
