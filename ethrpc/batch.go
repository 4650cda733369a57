package ethrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	tries    = 3 // of one HTTP request that meets a passing fault
	parallel = 4 // HTTP requests of one read under way at once

	quickPart = 4 // of the provider's timeout: of 20 s, what go-ethereum gives an eth_call
)

// provider is one Provider and what was learnt of it.
type provider struct {
	name        string
	rpc         *rpc.Client
	timeout     time.Duration
	retryDelay  time.Duration
	observer    Observer
	redact      sanitize.Redactor
	batchSize   atomic.Int64 // shrinks where the provider refuses
	noProof     atomic.Pointer[refusal]
	slow        slowContracts
	noMulticall atomic.Pointer[refusal]
	idle        func()
}

func newProvider(cfg Provider, opt Options) (*provider, error) {
	p := &provider{
		name:       cfg.Name,
		timeout:    cfg.Timeout,
		retryDelay: opt.RetryDelay,
		observer:   opt.Observer,
	}
	if p.timeout == 0 {
		p.timeout = 20 * time.Second
	}
	if p.retryDelay == 0 {
		p.retryDelay = 500 * time.Millisecond
	}
	if p.observer == nil {
		p.observer = nopObserver{}
	}
	p.batchSize.Store(int64(max(opt.BatchSize, 1)))

	secrets := sanitize.URLParts(cfg.URL.Reveal())
	headers := http.Header{"User-Agent": {opt.UserAgent}}
	for k, v := range cfg.Headers {
		headers.Set(k, v.Reveal())
		secrets = append(secrets, sanitize.HeaderParts(v.Reveal())...)
	}
	p.redact = sanitize.NewRedactor(secrets...)

	limit := rate.Inf
	if cfg.RequestsPerSecond > 0 {
		limit = rate.Limit(cfg.RequestsPerSecond)
	}
	transport := httpx.Transport()
	transport.MaxIdleConnsPerHost = parallel
	p.idle = transport.CloseIdleConnections
	client, err := rpc.DialOptions(context.Background(), cfg.URL.Reveal(), rpc.WithHeaders(headers), rpc.WithHTTPClient(&http.Client{
		Transport: &validatingTransport{
			next:    transport,
			limiter: rate.NewLimiter(limit, 1),
			redact:  p.redact,
			observe: func(took time.Duration) { p.observer.RoundTrip(p.name, took) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", cfg.Name, p.redact.Error(plain(err)))
	}
	p.rpc = client
	return p, nil
}

type nopObserver struct{}

func (nopObserver) RoundTrip(string, time.Duration) {}
func (nopObserver) Call(string, string, string)     {}
func (nopObserver) Head(string, time.Time)          {}

// call is one JSON-RPC call and its answer: result, or err where the provider answered with an error object.
type call struct {
	method string
	args   []any
	result json.RawMessage
	err    error
	probe  bool // an error object is what is hoped for
	quick  bool // it gets less time: it is suspected of making a request late
	weight int  // about how much comes back, or goes: a slot's proof is 1
}

// maxBatchWeight is the weight of the calls of one HTTP request, unless one alone is heavier.
const maxBatchWeight = 4 * (keysAtOnce + proofWeight)

// do makes the calls, in batches that the provider takes. The error is of the way there and back;
// what the provider answers to a single call is in the call.
func (p *provider) do(ctx context.Context, calls []*call) error {
	var g errgroup.Group
	g.SetLimit(parallel)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for len(calls) > 0 {
		chunk := splitBatch(calls, int(p.batchSize.Load()))
		calls = calls[len(chunk):]
		g.Go(func() error {
			err := p.chunk(ctx, chunk)
			if err != nil {
				cancel(err)
			}
			return err
		})
	}
	return g.Wait()
}

// splitBatch returns those of the first calls that go into one HTTP request.
func splitBatch(calls []*call, most int) []*call {
	n, weight := 0, 0
	for n < min(most, len(calls)) && (n == 0 || weight+calls[n].weight <= maxBatchWeight) {
		weight += calls[n].weight
		n++
	}
	return calls[:n]
}

// chunk makes the calls in one round trip, or in two halves where the provider refuses so many at once.
func (p *provider) chunk(ctx context.Context, calls []*call) error {
	err := p.retry(ctx, calls)
	if len(calls) == 1 || !isBatchRefused(err) {
		return err
	}
	half := (len(calls) + 1) / 2
	for {
		size := p.batchSize.Load()
		if size <= int64(half) || p.batchSize.CompareAndSwap(size, int64(half)) {
			break
		}
	}
	if err := p.chunk(ctx, calls[:half]); err != nil {
		return err
	}
	return p.chunk(ctx, calls[half:])
}

// retry makes the calls in one round trip, and again after a wait where the fault is a passing one.
func (p *provider) retry(ctx context.Context, calls []*call) error {
	delay := p.retryDelay
	for try := 1; ; try++ {
		err := p.roundTrip(ctx, calls)
		asked, again := isTransient(err)
		if !again || try == tries {
			return err
		}
		if err := httpx.Pause(ctx, max(delay, asked), err); err != nil {
			return err
		}
		delay *= 2
	}
}

// roundTrip makes the calls in one HTTP request. A rate limit in the answer to a single call fails them all, and so
// does a batch whose every call is refused for being in a batch.
func (p *provider) roundTrip(parent context.Context, calls []*call) error {
	timeout := p.timeout
	if slices.ContainsFunc(calls, func(c *call) bool { return c.quick }) {
		timeout /= quickPart
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	elems := make([]rpc.BatchElem, len(calls))
	for i, c := range calls {
		c.result, c.err = nil, nil
		elems[i] = rpc.BatchElem{Method: c.method, Args: c.args, Result: &c.result}
	}
	var err error
	if len(elems) == 1 {
		// Not as a batch of one: some providers refuse any array.
		e := p.rpc.CallContext(ctx, elems[0].Result, elems[0].Method, elems[0].Args...)
		var object rpc.Error
		if errors.As(e, &object) || errors.Is(e, rpc.ErrNoResult) {
			elems[0].Error = e
		} else {
			err = e
		}
	} else {
		err = p.rpc.BatchCallContext(ctx, elems)
	}
	if err != nil {
		err = p.transportError(parent, timeout, err)
	}
	for i, c := range calls {
		c.err = p.rpcError(elems[i].Error)
		if err == nil && c.err == nil && c.result == nil {
			c.err = errNull
		}
		p.observer.Call(p.name, c.method, c.resultOf(err))
	}
	if err != nil {
		return err
	}
	for _, c := range calls {
		if _, again := isTransient(c.err); again && !(c.method == getLogs && isTooWide(c.err)) {
			return c.err
		}
		if len(calls) > 1 && isBatchRefused(c.err) {
			return fmt.Errorf("%w: %w", errBatchRefused, c.err)
		}
	}
	return nil
}

// transportError is why no answer came, without URL and secrets.
func (p *provider) transportError(parent context.Context, timeout time.Duration, err error) error {
	err = p.redact.Error(plain(err))
	switch {
	case parent.Err() != nil:
		return fmt.Errorf("the audit ended before the provider answered: %w", context.Cause(parent))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", timeout, err)
	}
	return err
}

// rpcError is an error object fit to show.
func (p *provider) rpcError(err error) error {
	var object rpc.Error
	if errors.As(err, &object) {
		return &rpcError{object, sanitize.Quote(p.redact.Text(object.Error()))}
	}
	return p.redact.Error(err)
}

// resultOf says for the Observer what became of a call; way is what went wrong with its round trip.
func (c *call) resultOf(way error) string {
	switch {
	case errors.Is(way, context.DeadlineExceeded):
		return ResultTimeout
	case way != nil:
		return ResultFailed
	case c.err != nil && !c.probe:
		return ResultError
	default:
		return ResultOK
	}
}
