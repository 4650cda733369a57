// Package anchor verifies blocks with a light client instead of a chain's providers.
//
// Client follows the sync committees over untrusted beacon endpoints; package consensus verifies their documents. The result is a
// Head, with the Documents that prove it from a checkpoint on. Vouches (vouch.go) compares a block that a provider pinned with
// the Head.
package anchor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// Options configure a Client.
type Options struct {
	Network    consensus.Network
	Endpoints  []Endpoint  // in order of preference; at least one
	Checkpoint common.Hash // root of a finalized beacon block that the operator trusts
	UserAgent  string
}

// Head is the newest verified state of a light client.
type Head struct {
	Finalized consensus.Header
	Attested  consensus.Header // newer and signed, but not final; zero if unknown
	Documents Documents
	Current   bool // an endpoint answered just now
}

// Documents prove a Head. They are applied in the order of the fields.
type Documents struct {
	Network    consensus.Network `json:"network"`
	Checkpoint common.Hash       `json:"checkpoint"`
	Bootstrap  Document          `json:"bootstrap"`
	Updates    []Document        `json:"updates,omitempty"`
	Finality   *Document         `json:"finality,omitempty"` // nil if none is known yet
}

// Document is a light client document as an endpoint sent it.
type Document struct {
	At   time.Time `json:"at"` // when it was verified; a document may be invalid at another time
	Body []byte    `json:"body"`
}

// Replay verifies the documents again. None of them may be newer than until.
func (d *Documents) Replay(until time.Time) (*Head, error) {
	s, err := consensus.Bootstrap(d.Network, d.Checkpoint, d.Bootstrap.Body, d.Bootstrap.At)
	last := d.Bootstrap.At
	apply := func(u Document, verify func([]byte, time.Time) error) {
		if err == nil && u.At.Before(last) {
			err = errors.New("the light client documents are not in chronological order")
		}
		if last = u.At; err == nil {
			err = verify(u.Body, u.At)
		}
	}
	for _, u := range d.Updates {
		apply(u, func(b []byte, at time.Time) error { return s.Update(b, at) })
	}
	if d.Finality != nil {
		apply(*d.Finality, func(b []byte, at time.Time) error { return s.Finality(b, at) })
	}
	if err == nil && last.After(until) {
		err = errors.New("a light client document is newer than the audit")
	}
	if err != nil {
		return nil, err
	}
	return &Head{Finalized: s.Finalized(), Attested: s.Attested(), Documents: *d}, nil
}

// Client keeps a light client up to date. It is safe for concurrent use.
type Client struct {
	opt       Options
	endpoints []*endpoint

	mu   sync.Mutex
	last known
}

// known is the verified state. The store is nil before the first bootstrap.
type known struct {
	store *consensus.Store
	docs  Documents
}

// New returns a Client. It does not connect.
func New(opt Options) (*Client, error) {
	c := &Client{opt: opt}
	for _, e := range opt.Endpoints {
		made, err := newEndpoint(e, opt.UserAgent)
		if err != nil {
			return nil, err
		}
		c.endpoints = append(c.endpoints, made)
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	for _, e := range c.endpoints {
		e.http.CloseIdleConnections()
	}
}

// MaxAge is the maximum age of the last finalized block. It is normally 13 to 20 minutes old. An endpoint whose block is older is
// not up to date.
const MaxAge = time.Hour

// maxUpdates is how many updates are kept before the client starts again from its last verified block. One update of 57 kB comes
// each day, and evidence includes them.
const maxUpdates = 8

// Sync asks the endpoints, in order, for the last finalized block. remembered is a root that an earlier process verified, or zero.
// It returns the Head, or nil if nothing is verified yet, and the errors of the endpoints that failed.
func (c *Client) Sync(ctx context.Context, remembered common.Hash, now time.Time) (*Head, []transport.ProviderError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	clock := func() time.Time { return now.Add(time.Since(began).Truncate(time.Second)) } // documents may be signed during the Sync
	checkpoints := []common.Hash{remembered, c.opt.Checkpoint}
	var anew []transport.ProviderError
	if len(c.last.docs.Updates) > maxUpdates {
		checkpoints = []common.Hash{c.last.store.Finalized().Root}
		next, failed, err := c.follow(ctx, known{}, checkpoints, clock)
		if anew = failed; err == nil {
			c.last, anew = next, nil
		}
	}
	next, failed, err := c.follow(ctx, c.last, checkpoints, clock)
	failed = append(anew, failed...)
	if errors.Is(err, consensus.ErrTooOld) && c.last.store != nil { // the last Sync is too long ago
		var more []transport.ProviderError
		next, more, err = c.follow(ctx, known{}, []common.Hash{c.opt.Checkpoint}, clock)
		failed = append(failed, more...)
	}
	c.last = next
	if next.store == nil {
		return nil, failed
	}
	return &Head{Finalized: next.store.Finalized(), Attested: next.store.Attested(), Documents: next.docs, Current: err == nil}, failed
}

// follow asks the endpoints in turn until one has brought the store up to date. It keeps what each proves.
func (c *Client) follow(ctx context.Context, at known, checkpoints []common.Hash, clock func() time.Time) (_ known, failed []transport.ProviderError, err error) {
	for _, e := range c.endpoints {
		if err = at.follow(ctx, e, c.opt.Network, checkpoints, clock); err == nil || ctx.Err() != nil {
			break
		}
		failed = append(failed, transport.ProviderError{Provider: e.Name, Err: e.redact.Error(err)}) // err may quote a document
	}
	if err != nil && ctx.Err() != nil {
		failed = append(failed, transport.ProviderError{Provider: "beacon", Err: context.Cause(ctx)})
	}
	return at, failed, err
}

// follow asks one endpoint for all documents that are newer than the store.
func (k *known) follow(ctx context.Context, e *endpoint, network consensus.Network, checkpoints []common.Hash, clock func() time.Time) error {
	if k.store == nil {
		if err := k.bootstrap(ctx, e, network, checkpoints, clock); err != nil {
			return err
		}
	}
	for {
		period, more := k.store.NextPeriod(clock())
		if !more {
			break
		}
		updates, err := e.updates(ctx, period)
		if err != nil {
			return err
		}
		now := clock()
		for _, u := range updates {
			next := *k.store
			if err := next.Update(u, now); errors.Is(err, consensus.ErrOlder) {
				continue
			} else if err != nil {
				return err
			}
			before, asked := k.store.NextPeriod(now)
			if after, more := next.NextPeriod(now); after == before && more == asked && next.Period() == k.store.Period() {
				continue // it proves no new committee
			}
			k.store, k.docs.Updates = &next, append(slices.Clip(k.docs.Updates), Document{now, u})
			if f := k.docs.Finality; f != nil { // Replay applies it after the updates
				if k.docs.Finality = nil; next.Finality(f.Body, now) == nil {
					k.docs.Finality = &Document{now, f.Body}
				}
			}
		}
		if again, _ := k.store.NextPeriod(now); again == period {
			break // the update does not exist yet
		}
	}
	document, err := e.finality(ctx)
	if err != nil {
		return err
	}
	now := clock()
	if k.docs.Finality == nil || !bytes.Equal(document, k.docs.Finality.Body) {
		next := *k.store
		switch err := next.Finality(document, now); {
		case err == nil:
			k.store, k.docs.Finality = &next, &Document{now, document}
		case !errors.Is(err, consensus.ErrOlder): // nodes behind one load balancer may differ by minutes
			return err
		}
	}
	final := k.store.Finalized()
	if age := now.Sub(time.Unix(int64(final.Timestamp), 0)); age > MaxAge {
		return fmt.Errorf("its last finalized block, %d, is %s old", final.BlockNumber, age.Truncate(time.Second))
	}
	return nil
}

// bootstrap starts at the first checkpoint that the endpoint serves.
func (k *known) bootstrap(ctx context.Context, e *endpoint, network consensus.Network, checkpoints []common.Hash, clock func() time.Time) error {
	var failed []error
	for i, checkpoint := range checkpoints {
		if checkpoint == (common.Hash{}) || slices.Contains(checkpoints[:i], checkpoint) {
			continue
		}
		document, err := e.bootstrap(ctx, checkpoint)
		now := clock()
		if err == nil {
			k.store, err = consensus.Bootstrap(network, checkpoint, document, now)
		}
		if err == nil {
			k.docs = Documents{Network: network, Checkpoint: checkpoint, Bootstrap: Document{now, document}}
			return nil
		}
		failed = append(failed, fmt.Errorf("starting at checkpoint %s: %w", checkpoint, err))
	}
	return cmp.Or(errors.Join(failed...), errors.New("the checkpoint is all zeros"))
}
