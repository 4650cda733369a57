// Package transport makes JSON-RPC calls over HTTP to one provider.
//
// Client.Do sends calls in batches, retries transient failures, and checks that every call has its own answer. A JSON-RPC
// error object is the answer of its Call. An error of Do is a failure of the transport. Providers word the same error in
// many ways: the Is functions classify them. No error of this package shows a URL or a secret.
package transport

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	tries    = 3 // of a call that fails transiently
	parallel = 4 // concurrent HTTP requests of one Do

	quickPart = 4 // divides the timeout for a Quick call; of 20 s this leaves the 5 s that go-ethereum gives an eth_call
)

// Provider configures one JSON-RPC endpoint over HTTP. URL and Headers are secret.
type Provider struct {
	Name              string
	URL               sanitize.Secret
	Headers           map[string]sanitize.Secret
	Timeout           time.Duration // of one HTTP round trip; zero means 20 s
	RequestsPerSecond float64       // HTTP requests; zero means no limit
}

// Options are the same for all providers of a chain.
type Options struct {
	BatchSize  int // calls in one JSON-RPC batch, 1 or more
	UserAgent  string
	Observer   Observer      // optional
	RetryDelay time.Duration // before the first retry; doubles each time. Zero means 500 ms
}

// Client calls one provider. It is safe for concurrent use.
type Client struct {
	Name     string // the provider's
	Observer Observer

	http       *http.Client
	url        string
	headers    http.Header
	limiter    *rate.Limiter
	lastID     atomic.Uint64 // of a JSON-RPC call
	timeout    time.Duration
	retryDelay time.Duration
	redact     sanitize.Redactor
	batchSize  atomic.Int64 // shrinks if the provider refuses a batch
}

// New returns a Client. It does not connect.
func New(cfg Provider, opt Options) (*Client, error) {
	transport := httpx.Transport()
	transport.MaxIdleConnsPerHost = parallel
	limit := rate.Limit(cmp.Or(max(cfg.RequestsPerSecond, 0), float64(rate.Inf)))
	c := &Client{
		Name:       cfg.Name,
		Observer:   cmp.Or[Observer](opt.Observer, nopObserver{}),
		http:       &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		url:        cfg.URL.Reveal(),
		headers:    http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}, "User-Agent": {opt.UserAgent}},
		limiter:    rate.NewLimiter(limit, 1),
		timeout:    cmp.Or(cfg.Timeout, 20*time.Second),
		retryDelay: cmp.Or(opt.RetryDelay, 500*time.Millisecond),
	}
	c.batchSize.Store(int64(max(opt.BatchSize, 1)))
	secrets := sanitize.URLParts(c.url)
	for k, v := range cfg.Headers {
		c.headers.Set(k, v.Reveal())
		secrets = append(secrets, sanitize.HeaderParts(v.Reveal())...)
	}
	c.redact = sanitize.NewRedactor(secrets...)
	u, err := url.Parse(c.url)
	if err == nil && u.Scheme != "http" && u.Scheme != "https" {
		err = fmt.Errorf("no known transport for URL scheme %q", u.Scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", cfg.Name, c.redact.Error(withoutURL(err)))
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call is one JSON-RPC call and its answer: Result, or Err if the provider answered with an error object.
type Call struct {
	Method string
	Args   []any
	Result json.RawMessage
	Err    error
	Probe  bool // an error object counts as ResultOK
	Quick  bool // shortens the timeout; for calls that may be slow
	Weight int  // the approximate size of request or answer, in storage proofs
}

// Decode unmarshals the result into v, or returns Err.
func (c *Call) Decode(v any) error {
	if c.Err != nil {
		return c.Err
	}
	return json.Unmarshal(c.Result, v)
}

// Answered reports whether the call was made and answered.
func (c *Call) Answered() bool { return c.Result != nil || c.Err != nil }

// MaxWeight is the maximum weight of the calls of one HTTP request. A single call may be heavier.
const MaxWeight = 1056

// Do makes the calls, in batches that the provider accepts. It returns transport errors; an error that answers a single call
// is in that Call.
func (c *Client) Do(ctx context.Context, calls ...*Call) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for len(calls) > 0 {
		batch := nextBatch(calls, c.BatchSize())
		calls = calls[len(batch):]
		g.Go(func() error { return c.batch(ctx, batch) })
	}
	return g.Wait()
}

// BatchSize returns the current number of calls in one HTTP request.
func (c *Client) BatchSize() int { return int(c.batchSize.Load()) }

// nextBatch returns the leading calls that fit into one HTTP request.
func nextBatch(calls []*Call, most int) []*Call {
	n, weight := 0, 0
	for n < min(most, len(calls)) && (n == 0 || weight+calls[n].Weight <= MaxWeight) {
		weight += calls[n].Weight
		n++
	}
	return calls[:n]
}

// batch makes the calls in one round trip, or in two halves if the provider refuses the batch. If both halves succeed, batches
// stay that small; if not, the provider refused one of the calls.
func (c *Client) batch(ctx context.Context, calls []*Call) error {
	err := c.Retry(ctx, IsTransient, func() error { return c.roundTrip(ctx, calls) })
	if len(calls) == 1 || !isBatchRefused(err) {
		return err
	}
	half := (len(calls) + 1) / 2
	if err := c.batch(ctx, calls[:half]); err != nil {
		return err
	}
	if err := c.batch(ctx, calls[half:]); err != nil {
		return err
	}
	if c.batchSize.Load() > int64(half) {
		c.batchSize.Store(int64(half))
	}
	return nil
}

// Retry calls f, and retries with exponential backoff while its error is transient.
func (c *Client) Retry(ctx context.Context, transient func(error) bool, f func() error) error {
	delay := c.retryDelay
	for try := 1; ; try++ {
		err := f()
		if err == nil || try == tries || !transient(err) {
			return err
		}
		if err := httpx.Pause(ctx, max(delay, retryAfter(err)), err); err != nil {
			return err
		}
		delay *= 2
	}
}

// roundTrip makes the calls in one HTTP request. A rate limit in the answer to a single call fails them all, and so does a
// single call that is refused for being in a batch.
func (c *Client) roundTrip(parent context.Context, calls []*Call) error {
	timeout := c.timeout
	if slices.ContainsFunc(calls, func(call *Call) bool { return call.Quick }) {
		timeout /= quickPart
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	answers, err := c.exchange(ctx, calls)
	if err != nil {
		err = c.transportError(parent, timeout, err)
	}
	for i, call := range calls {
		switch call.Result, call.Err = nil, nil; {
		case err != nil:
		case answers[i].Error != nil:
			call.Err = c.answerError(int(answers[i].Error.Code), answers[i].Error.Message)
		case answers[i].Result == nil:
			call.Err = errNoResult
		default:
			call.Result = answers[i].Result
		}
		c.Observer.Call(c.Name, call.Method, call.resultOf(err))
	}
	if err != nil {
		return err
	}
	for _, call := range calls {
		if IsTransient(call.Err) && !(call.Method == "eth_getLogs" && IsTooWide(call.Err)) {
			return call.Err
		}
		if len(calls) > 1 && isBatchRefused(call.Err) {
			return fmt.Errorf("%w: %w", errBatchRefused, call.Err)
		}
	}
	return nil
}

// transportError explains why no answer came, without URL and secrets.
func (c *Client) transportError(parent context.Context, timeout time.Duration, err error) error {
	err = c.redact.Error(withoutURL(err))
	switch {
	case parent.Err() != nil:
		return fmt.Errorf("the audit ended before the provider answered: %w", context.Cause(parent))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", timeout, err)
	}
	return err
}

// answerError returns an error object as an error that is safe to show.
func (c *Client) answerError(code int, message string) error {
	message = cmp.Or(message, fmt.Sprintf("json-rpc error %d", code))
	return &rpcError{code, message, sanitize.Quote(c.redact.Text(message))}
}

// resultOf returns a call's result for the Observer; err is the error of its round trip.
func (c *Call) resultOf(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ResultTimeout
	case err != nil:
		return ResultFailed
	case c.Err != nil && !c.Probe:
		return ResultError
	default:
		return ResultOK
	}
}

// Observer receives events about calls to providers. It must be safe for concurrent use.
type Observer interface {
	// RoundTrip reports that one HTTP request was answered, or failed, after took.
	RoundTrip(provider string, took time.Duration)
	// Call reports that one JSON-RPC call ended with result, one of Results.
	Call(provider, method, result string)
	// Head reports the time of the provider's newest block.
	Head(provider string, t time.Time)
}

type nopObserver struct{}

func (nopObserver) RoundTrip(string, time.Duration) {}
func (nopObserver) Call(string, string, string)     {}
func (nopObserver) Head(string, time.Time)          {}

// Methods lists every JSON-RPC method that this module calls.
var Methods = []string{
	"eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getCode", "eth_getStorageAt", "eth_call",
	"eth_getProof", "eth_getLogs", "eth_getTransactionByHash",
	"eth_getBlockReceipts", "eth_getTransactionReceipt",
}

// Results of one JSON-RPC call.
const (
	ResultOK      = "ok"      // a result came; it may still be wrong
	ResultError   = "error"   // the provider answered with an error object
	ResultFailed  = "failed"  // no usable answer came: network, HTTP status, malformed body
	ResultTimeout = "timeout" // no answer in time
)

// Results lists every result of Observer.Call.
var Results = []string{ResultOK, ResultError, ResultFailed, ResultTimeout}
