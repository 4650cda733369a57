package ethrpc

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// ErrNoState marks a provider that cannot serve the block that a policy names: its state is pruned, or it knows no
// such block or tag. Only then is the next policy tried.
var ErrNoState = errors.New("no state")

// ChainIDError is a provider of another chain.
type ChainIDError struct{ Got, Want uint64 }

func (e *ChainIDError) Error() string {
	return fmt.Sprintf("eth_chainId answers %d, but chain_id is configured as %d", e.Got, e.Want)
}

// ProviderError is what went wrong with one provider. Its text carries no secret and no URL.
type ProviderError struct {
	Provider string // its configured name
	Err      error
}

func (e ProviderError) Error() string { return e.Provider + ": " + e.Err.Error() }
func (e ProviderError) Unwrap() error { return e.Err }

// ReadError is the failure of every provider.
type ReadError struct{ Failures []ProviderError }

func (e *ReadError) Error() string {
	texts := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		texts[i] = f.Error()
	}
	return "no provider could be read: " + strings.Join(texts, "; ")
}

func (e *ReadError) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f
	}
	return errs
}

var (
	errNull         = errors.New("the answer is null")
	errUnknownBlock = errors.New("block unknown")
	errBatchRefused = errors.New("batch refused")
	errTooLong      = fmt.Errorf("the answer is over %d bytes", maxBody)
)

// statusError is an HTTP answer that is not 200.
type statusError struct {
	status     int
	body       string        // cut, without secrets
	retryAfter time.Duration // zero: not said
}

func (e *statusError) Error() string {
	hint := ""
	switch {
	case e.status >= 300 && e.status < 400:
		hint = " (redirects are refused)"
	case e.status == 401 || e.status == 403:
		hint = " (the provider wants another key, or refuses this client)"
	}
	if e.body == "" {
		return fmt.Sprintf("HTTP status %d%s", e.status, hint)
	}
	return fmt.Sprintf("HTTP status %d%s: %s", e.status, hint, e.body)
}

// isTransient reports whether a second try a little later may succeed, and how long the provider asked to wait.
func isTransient(err error) (time.Duration, bool) {
	var status *statusError
	if errors.As(err, &status) {
		return status.retryAfter, status.status == 429 || status.status == 503
	}
	return 0, isRPC(err, []int{-32005, 429}, "rate limit", "too many requests", "request limit")
}

// isRPC reports whether err is a JSON-RPC error object with one of the codes or with one of the texts in its message.
func isRPC(err error, codes []int, texts ...string) bool {
	var e rpc.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.ErrorCode() == c {
			return true
		}
	}
	msg := strings.ToLower(e.Error())
	for _, t := range texts {
		if strings.Contains(msg, t) {
			return true
		}
	}
	return false
}

// isPruned: the wordings of geth, op-geth, reth, erigon, nethermind and hosted providers for a block whose state is gone.
func isPruned(err error) bool {
	return !isRPC(err, []int{-32601}) && isRPC(err, nil, "missing trie node", "pruned", "pruning", "is not available", "not available for",
		"historical state", "state unavailable", "archive", "state not found", "out of range", "state histories")
}

// isUnknownBlock: the block itself is not there: a node that lags behind, or a reorganisation.
func isUnknownBlock(err error) bool {
	return isRPC(err, []int{-32001}, "header not found", "header for hash not found", "unknown block", "block not found",
		"not currently canonical", "could not find block", "not canonical", "block does not exist", "unknown header")
}

// isFormRefused: the provider does not take a block as an object (EIP-1898).
func isFormRefused(err error) bool {
	return !isUnknownBlock(err) && isRPC(err, []int{-32602, -32600}, "invalid argument", "invalid params", "cannot unmarshal", "parse error", "expected string")
}

// isRevert: the contract ran and refused, which is its answer and no fault of the provider.
func isRevert(err error) bool {
	return isRPC(err, []int{3}, "revert", "invalid opcode", "out of gas", "stack underflow", "stackunderflow", "invalid jump", "opcodenotfound")
}

// isBatchRefused: the wordings for a batch that is too large, or for no batches at all.
func isBatchRefused(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.status == 413 || status.status == 400 || status.status == 405 || status.status == 422
	}
	return errors.Is(err, errBatchRefused) || isRPC(err, nil, "batch")
}

// plain peels what prints a URL off a transport error.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// rpcError is a JSON-RPC error object: its text comes from the provider, so it is cleaned, cut and quoted.
type rpcError struct {
	err  rpc.Error
	text string
}

func (e *rpcError) Error() string {
	return fmt.Sprintf("the provider answers with error %d, %s", e.err.ErrorCode(), e.text)
}

func (e *rpcError) Unwrap() error { return e.err }

// foreign is a text from a provider as an error: cut and quoted.
func foreign(format, text string) error { return fmt.Errorf(format, sanitize.Quote(text)) }
