package ethrpc

import (
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// CheckSingle holds the answer to a single call against its id.
func CheckSingle(body []byte, id string) error {
	return new(validatingTransport).check(body, asked{ids: map[string]bool{id: true}})
}

// ReadBlock reads the answer to eth_getBlockByNumber.
func ReadBlock(raw json.RawMessage) (Block, error) { return (&call{result: raw}).block() }

// ReadChainID reads the answer to eth_chainId, which must be want.
func ReadChainID(raw json.RawMessage, want uint64) error {
	return checkChainID(&call{result: raw}, want)
}

// ReadLogs reads the answers to eth_getLogs of the blocks from to to, and to eth_getBlockByNumber of block to.
func ReadLogs(req ScanRequest, from, to uint64, logs, block json.RawMessage) ([]types.Log, common.Hash, error) {
	s := &blockRange{from: from, to: to}
	err := s.fill(&req, logs, &call{result: block})
	return s.logs, s.last, err
}

// ReadProof reads the answer to eth_getProof for n keys.
func ReadProof(raw json.RawMessage, n int) (account [][]byte, slots [][][]byte, err error) {
	p, err := readProof(raw, n)
	return p.account, p.slots, err
}

// ReadBool and ReadBytes read answers to eth_call.
var ReadBool = boolWord

func ReadBytes(raw json.RawMessage) ([]byte, error) { return bytesOf(raw) }

// ReadMulticall reads what n calls in one answered.
func ReadMulticall(raw json.RawMessage, n int) ([]byte, error) {
	return (&multicall{call{result: raw}, make([]*job, n)}).answers()
}

// ReadControl reads what the getters of a contract's Control returned, in their order, and its implementation's slot.
func ReadControl(outputs [][]byte, slot common.Hash) (c Control) {
	for i, b := range outputs[:min(len(outputs), controlGetters)] {
		c.set(i, output{data: b})
	}
	c.setImplementation(slot, nil)
	return c
}

// Kinds are what a provider's words are taken for.
type Kinds struct{ Passing, Pruned, UnknownBlock, FormRefused, Revert, BatchRefused, TooWide bool }

func kindsOf(err error) Kinds {
	_, again := isTransient(err)
	return Kinds{again, isPruned(err), isUnknownBlock(err), isFormRefused(err), isRevert(err), isBatchRefused(err), isTooWide(err)}
}

type object struct {
	code int
	text string
}

func (o object) Error() string  { return o.text }
func (o object) ErrorCode() int { return o.code }

// Answered is what becomes of a JSON-RPC error object, where a text is secret.
func Answered(code int, text, hidden string) (Kinds, error) {
	err := (&provider{redact: sanitize.NewRedactor(hidden)}).rpcError(object{code, text})
	return kindsOf(err), err
}

// Refused is what becomes of an HTTP answer, where a text is secret.
func Refused(status int, body []byte, hidden string) (Kinds, error) {
	err := &statusError{status: status, body: (&validatingTransport{redact: sanitize.NewRedactor(hidden)}).cut(body)}
	return kindsOf(err), err
}
