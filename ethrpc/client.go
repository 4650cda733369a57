// Package ethrpc reads dstack KMS contracts over JSON-RPC from providers that it does not trust.
//
// Pin chooses a block and checks the chain id. The same request asks for what proves an unchanged contract again. Read
// then asks at the block's hash (EIP-1898), which means the same to every provider. If a provider ignores block hashes,
// Read asks at the block's number and checks the hash afterwards. Read proves answers against the state root (package
// proof), fails over to the next provider, and compares several providers where the configuration asks for a quorum.
//
// Contracts share round trips and verified trie nodes, but not their fate. Each has its own Reading, from one provider at
// one block. A contract whose code misbehaves ends its own run.
//
// Packages: transport (calls to one provider), block (tags and blocks), kms (the contract's getters and slots), logs
// (events), proof (verified state and a local EVM), getters (one contract's code, run over that state). In this package the
// reader chooses the provider and whether to prove (read.go), and the prover fetches in rounds what a getters.Run misses
// (prover.go). ProvenCalls calls any other contract in the same way (calls.go); anchor/l1 reads with it what L1 holds of an L2.
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

	opt       Options
	providers []*provider
	reading   sync.Mutex                 // held by a Read
	proven    atomic.Pointer[proofCache] // by earlier reads, or nil
}

// provider is one provider and what was learnt of it.
type provider struct {
	*transport.Client
	pauses sync.Map // a pause by what the provider cannot do (toProve, toMulticall), or by the contract that makes it slow
}

// parallel pieces of work are under way at once.
const parallel = 4

// pauseTime is how long what a provider could not do is not asked of it.
const pauseTime = 10 * time.Minute

// What a provider may not be able to do.
const (
	toProve     = "prove"
	toMulticall = "make multicalls"
)

// pause is why a provider cannot do something, for as long as that is believed.
type pause struct {
	why   error
	until time.Time
}

func (p *provider) pause(what any, why error) {
	p.pauses.Store(what, pause{why, time.Now().Add(pauseTime)})
}

// cannot returns why the provider cannot do something, or nil.
func (p *provider) cannot(what any) error {
	if known, ok := p.pauses.Load(what); ok && time.Now().Before(known.(pause).until) {
		return known.(pause).why
	}
	return nil
}

// New returns a Client. It does not connect: the first Pin finds out which providers are down.
func New(opt Options) (*Client, error) {
	if len(opt.Tags) == 0 || len(opt.Providers) == 0 {
		return nil, errors.New("a chain needs a block policy and a provider")
	}
	if opt.Agreement > len(opt.Providers) {
		return nil, fmt.Errorf("%d providers cannot agree, there are %d", opt.Agreement, len(opt.Providers))
	}
	opt.Agreement = max(opt.Agreement, 1)
	c := &Client{opt: opt}
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
		for _, tag := range c.opt.Tags {
			if _, err = c.pin(ctx, p, tag, nil); !errors.Is(err, ErrNoState) {
				break
			}
		}
		if err != nil {
			failed = append(failed, ProviderError{Provider: p.Name, Err: err})
		}
	}
	return failed
}
