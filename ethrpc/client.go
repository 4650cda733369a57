package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Client reads one chain through its providers. It is safe for concurrent use.
type Client struct {
	chainID   uint64
	tags      []BlockTag
	verify    Verify
	agreement int
	providers []*provider

	reading sync.Mutex                 // held by a Read
	proven  atomic.Pointer[proofCache] // by earlier reads; nil: nothing
}

// New returns a Client. It does not connect: the first Pin finds out which providers are down.
func New(opt Options) (*Client, error) {
	if len(opt.Tags) == 0 || len(opt.Providers) == 0 {
		return nil, errors.New("a chain needs a block policy and a provider")
	}
	c := &Client{chainID: opt.ChainID, tags: opt.Tags, verify: opt.Verify, agreement: max(opt.Agreement, 1)}
	if c.agreement > len(opt.Providers) {
		return nil, fmt.Errorf("%d providers cannot agree, there are %d", c.agreement, len(opt.Providers))
	}
	for _, cfg := range opt.Providers {
		p, err := newProvider(cfg, opt)
		if err != nil {
			return nil, err
		}
		c.providers = append(c.providers, p)
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	for _, p := range c.providers {
		p.idle()
	}
}

// Forget drops what was proven, which otherwise makes the next Read cheap.
func (c *Client) Forget() {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.proven.Store(nil)
}

// Block is a block as a provider describes it.
type Block struct {
	Number uint64
	Hash   common.Hash
	Time   time.Time // UTC
}

// BlockAt returns the block of a number from the first provider that answers. The error is a *ReadError, and ErrNoState
// where none has it.
func (c *Client) BlockAt(ctx context.Context, number uint64) (Block, error) {
	at, err := c.Pin(ctx, PinRequest{Tags: []BlockTag{AtNumber(number)}})
	if err != nil {
		return Block{}, err
	}
	return at.Block, nil
}

// Check asks every provider for the chain id and for a block by the first tag that it can serve, and returns what is
// wrong with each.
func (c *Client) Check(ctx context.Context) []ProviderError {
	var failed []ProviderError
	for _, p := range c.providers {
		var err error
		for _, tag := range c.tags {
			if _, err = p.pin(ctx, c.chainID, tag, nil); !errors.Is(err, ErrNoState) {
				break
			}
		}
		if err != nil {
			failed = append(failed, ProviderError{p.name, err})
		}
	}
	return failed
}
