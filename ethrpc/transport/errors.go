package transport

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ProviderError is the failure of one provider. Its text has no secret and no URL.
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
	errNoResult     = errors.New("JSON-RPC response has no result")
	errBatchRefused = errors.New("batch refused")
	errTooLong      = fmt.Errorf("the answer is over %d bytes", maxBody)
)

// statusError is an HTTP answer that is not 200.
type statusError struct {
	status     int
	body       string        // cut, without secrets
	retryAfter time.Duration // from the Retry-After header; zero if absent
}

func (e *statusError) Error() string {
	hint := ""
	switch {
	case e.status >= 300 && e.status < 400:
		hint = " (redirects are refused)"
	case e.status == 401 || e.status == 403:
		hint = " (the provider rejects the key or this client)"
	}
	if e.body == "" {
		return fmt.Sprintf("HTTP status %d%s", e.status, hint)
	}
	return fmt.Sprintf("HTTP status %d%s: %s", e.status, hint, e.body)
}

func hasStatus(err error, codes ...int) bool {
	status, ok := errors.AsType[*statusError](err)
	return ok && slices.Contains(codes, status.status)
}

// IsTransient reports whether a retry a little later may succeed.
func IsTransient(err error) bool {
	return hasStatus(err, 429, 503) || IsRPC(err, []int{-32005, 429}, "rate limit", "too many requests", "request limit")
}

// retryAfter returns how long the provider asks to wait, or zero.
func retryAfter(err error) time.Duration {
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.retryAfter
	}
	return 0
}

// Wording returns the provider's own message in err, uncut, or "".
func Wording(err error) string {
	if object, ok := errors.AsType[*rpcError](err); ok {
		return object.message
	}
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.body
	}
	return ""
}

func contains(text string, any []string) bool {
	return slices.ContainsFunc(any, func(s string) bool { return strings.Contains(text, s) })
}

// IsRPC reports whether err is a JSON-RPC error object with one of the codes or with one of the texts in its message.
func IsRPC(err error, codes []int, texts ...string) bool {
	e, ok := errors.AsType[*rpcError](err)
	return ok && (slices.Contains(codes, e.code) || contains(strings.ToLower(e.message), texts))
}

// IsPruned reports whether the provider no longer has the block's state. It knows the messages of geth, op-geth, reth, erigon,
// nethermind and hosted providers.
func IsPruned(err error) bool {
	return !IsRPC(err, []int{-32601}) && IsRPC(err, nil, "missing trie node", "pruned", "pruning", "is not available", "not available for",
		"historical state", "state unavailable", "archive", "state not found", "out of range", "state histories")
}

// IsUnknownBlock reports whether the provider does not have the block: it lags behind, or the chain was reorganised.
func IsUnknownBlock(err error) bool {
	return IsRPC(err, []int{-32001}, "header not found", "header for hash not found", "unknown block", "block not found",
		"not currently canonical", "could not find block", "not canonical", "block does not exist", "unknown header")
}

// IsFormRefused reports whether the provider refuses a block parameter that is an object (EIP-1898).
func IsFormRefused(err error) bool {
	return !IsUnknownBlock(err) && IsRPC(err, []int{-32602, -32600}, "invalid argument", "invalid params", "cannot unmarshal", "parse error", "expected string")
}

// IsRevert reports whether the contract's code ran and failed. That is its answer, not a failure of the provider.
func IsRevert(err error) bool {
	return IsRPC(err, []int{3}, "revert", "invalid opcode", "out of gas", "stack underflow", "stackunderflow", "invalid jump", "opcodenotfound")
}

// isBatchRefused reports whether the provider refuses batches, or one of this size.
func isBatchRefused(err error) bool {
	return hasStatus(err, 400, 405, 413, 422) || errors.Is(err, errBatchRefused) || IsRPC(err, nil, "batch")
}

// IsTooLarge reports whether the request or its answer may be too large.
func IsTooLarge(err error) bool { return errors.Is(err, errTooLong) || hasStatus(err, 400, 413, 422) }

// IsAnswerTooLarge reports whether the answer is larger than this client accepts, or than geth sends.
func IsAnswerTooLarge(err error) bool {
	return errors.Is(err, errTooLong) || IsRPC(err, nil, "response too large")
}

// IsTimeout reports whether an answer took too long.
func IsTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || hasStatus(err, 408, 504, 524)
}

// IsTooWide reports whether an eth_getLogs range has too many blocks or logs. It checks the message, because some providers use
// the error code of a rate limit.
func IsTooWide(err error) bool {
	text := strings.ToLower(Wording(err))
	return !contains(text, []string{
		"rate limit", "rate exceeded", "request limit", "request rate", "request count", "too many requests", "per second", "quota",
	}) && contains(text, []string{
		"block range", "blocks range", "range of blocks", "more than", "max is", "max results", "exceeds limit", "exceeds the limit", "limit exceeded",
		"exceeds defined limit", "too wide", "too large", "too many results", "too many logs", "too many blocks", "ranges over", "response size",
		"beyond current head", "query timeout",
	})
}

// withoutURL unwraps a *url.Error, whose text has the URL.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// rpcError is a JSON-RPC error object. text is its message, redacted, cut and quoted.
type rpcError struct {
	code          int
	message, text string
}

func (e *rpcError) Error() string {
	return fmt.Sprintf("the provider answers with error %d, %s", e.code, e.text)
}
