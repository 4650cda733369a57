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
	errNoResult     = errors.New("JSON-RPC response has no result")
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

func hasStatus(err error, codes ...int) bool {
	status, ok := errors.AsType[*statusError](err)
	return ok && slices.Contains(codes, status.status)
}

// IsTransient reports whether a second try a little later may succeed.
func IsTransient(err error) bool {
	return hasStatus(err, 429, 503) || IsRPC(err, []int{-32005, 429}, "rate limit", "too many requests", "request limit")
}

// retryAfter is how long the provider asks to wait; zero: it does not say.
func retryAfter(err error) time.Duration {
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.retryAfter
	}
	return 0
}

// Wording is what the provider itself says in err, uncut.
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

// IsPruned: the wordings of geth, op-geth, reth, erigon, nethermind and hosted providers for a block whose state is gone.
func IsPruned(err error) bool {
	return !IsRPC(err, []int{-32601}) && IsRPC(err, nil, "missing trie node", "pruned", "pruning", "is not available", "not available for",
		"historical state", "state unavailable", "archive", "state not found", "out of range", "state histories")
}

// IsUnknownBlock: the block itself is not there: a node that lags behind, or a reorganisation.
func IsUnknownBlock(err error) bool {
	return IsRPC(err, []int{-32001}, "header not found", "header for hash not found", "unknown block", "block not found",
		"not currently canonical", "could not find block", "not canonical", "block does not exist", "unknown header")
}

// IsFormRefused: the provider does not take a block as an object (EIP-1898).
func IsFormRefused(err error) bool {
	return !IsUnknownBlock(err) && IsRPC(err, []int{-32602, -32600}, "invalid argument", "invalid params", "cannot unmarshal", "parse error", "expected string")
}

// IsRevert: the contract ran and refused, which is its answer and no fault of the provider.
func IsRevert(err error) bool {
	return IsRPC(err, []int{3}, "revert", "invalid opcode", "out of gas", "stack underflow", "stackunderflow", "invalid jump", "opcodenotfound")
}

// isBatchRefused: the wordings for a batch that is too large, or for no batches at all.
func isBatchRefused(err error) bool {
	return hasStatus(err, 400, 405, 413, 422) || errors.Is(err, errBatchRefused) || IsRPC(err, nil, "batch")
}

// IsTooLarge reports whether the size of a request or of its answer may be why there is none.
func IsTooLarge(err error) bool { return errors.Is(err, errTooLong) || hasStatus(err, 400, 413, 422) }

// IsAnswerTooLarge reports whether the answer is larger than this client accepts, or than geth sends.
func IsAnswerTooLarge(err error) bool {
	return errors.Is(err, errTooLong) || IsRPC(err, nil, "response too large")
}

// IsTimeout reports whether an answer took too long.
func IsTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || hasStatus(err, 408, 504, 524)
}

// IsTooWide: the wordings for a range of too many blocks or logs, some of which have the error code of a rate limit.
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

// withoutURL peels off a transport error what prints the URL.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// rpcError is a JSON-RPC error object. Its message comes from the provider, so text is cleaned, cut and quoted.
type rpcError struct {
	code          int
	message, text string
}

func (e *rpcError) Error() string {
	return fmt.Sprintf("the provider answers with error %d, %s", e.code, e.text)
}
