package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// What a Client has from its rooms.
type (
	Answer        = kms.Answer
	Block         = block.Block
	BlockTag      = block.Tag
	ChainIDError  = block.ChainIDError
	Control       = kms.Control
	Field[T any]  = kms.Field[T]
	Provider      = transport.Provider
	ProviderError = transport.ProviderError
	Query         = kms.Query
	ReadError     = transport.ReadError
)

// The same of package block.
var (
	ErrNoState    = block.ErrNoState
	ParseBlockTag = block.ParseTag
	Latest        = block.Latest
	AtNumber      = block.AtNumber
	AtHash        = block.AtHash
)

// Options configure a Client.
type Options struct {
	ChainID    uint64     // what eth_chainId must answer
	Tags       []BlockTag // in order of preference; at least one
	Verify     Verify
	Agreement  int        // how many providers must say the same; 0: one
	BatchSize  int        // calls in one JSON-RPC batch, 1 or more
	Providers  []Provider // in order of preference; at least one
	UserAgent  string
	Observer   transport.Observer // optional
	RetryDelay time.Duration      // before the second try of a call that met a passing fault; it doubles. Zero: 500 ms
}

// Client reads one chain through its providers. It is safe for concurrent use.
type Client struct {
	*logs.Reader // Scan, DeploymentBlock and TxInfo

	chainID   uint64
	tags      []BlockTag
	verify    Verify
	agreement int
	providers []*provider

	reading sync.Mutex                 // held by a Read
	proven  atomic.Pointer[proofCache] // by earlier reads, or nil
}

// provider is one provider and what was learnt of it.
type provider struct {
	*transport.Client
	noProof     atomic.Pointer[refusal]
	noMulticall atomic.Pointer[refusal]
	slow        sync.Map // by contract that makes its answers late: until when that is remembered
}

// parallel pieces of work are under way at once.
const parallel = 4

// refusalPause is how long what a provider could not do is not asked of it.
const refusalPause = 10 * time.Minute

// refusal is why a provider cannot do something, for as long as that is believed.
type refusal struct {
	why   error
	until time.Time
}

func newRefusal(why error) *refusal { return &refusal{why, time.Now().Add(refusalPause)} }

func (r *refusal) believed() error {
	if r != nil && time.Now().Before(r.until) {
		return r.why
	}
	return nil
}

// cannotProve and cannotMulticall are why the provider does neither, for as long as that is believed.
func (p *provider) cannotProve() error     { return p.noProof.Load().believed() }
func (p *provider) cannotMulticall() error { return p.noMulticall.Load().believed() }

// New returns a Client. It does not connect: the first Pin finds out which providers are down.
func New(opt Options) (*Client, error) {
	if len(opt.Tags) == 0 || len(opt.Providers) == 0 {
		return nil, errors.New("a chain needs a block policy and a provider")
	}
	c := &Client{chainID: opt.ChainID, tags: opt.Tags, verify: opt.Verify, agreement: max(opt.Agreement, 1)}
	if c.agreement > len(opt.Providers) {
		return nil, fmt.Errorf("%d providers cannot agree, there are %d", c.agreement, len(opt.Providers))
	}
	var all []*transport.Client
	for _, cfg := range opt.Providers {
		p, err := transport.New(cfg, transport.Options{
			BatchSize: opt.BatchSize, UserAgent: opt.UserAgent, Observer: opt.Observer, RetryDelay: opt.RetryDelay,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, p)
		c.providers = append(c.providers, &provider{Client: p})
	}
	c.Reader = logs.New(opt.ChainID, all)
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	for _, p := range c.providers {
		p.Close()
	}
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
			failed = append(failed, ProviderError{Provider: p.Name, Err: err})
		}
	}
	return failed
}
