// Package ethrpc reads dstack KMS contracts over JSON-RPC from providers that it does not trust.
//
// Pin chooses a block and checks the chain id. The same request prefetches account proofs, which suffice if nothing changed.
// Read then asks at the block's hash (EIP-1898), so every provider answers for the same block. If a provider ignores block
// hashes, Read asks at the block's number and checks the hash afterwards. Read proves answers against the state root (package
// proof), fails over to the next provider, and compares several providers if the configuration asks for a quorum.
//
// Contracts share round trips and verified trie nodes, but fail independently. Each has its own Reading, from one provider at
// one block. A contract whose code misbehaves ends only its own run.
//
// Packages: transport (calls to one provider), block (tags and blocks), kms (the contract's getters and slots), logs (events),
// proof (verified state and a local EVM), getters (one contract's code, run over that state). In this package the reader chooses
// the provider and whether to prove (read.go), and the prover fetches the state that a getters.Run misses, in rounds (prover.go).
// ProvenCalls calls any other contract in the same way (calls.go); anchor/l1 uses it to read an L2's contracts on L1.
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

// Types of the subpackages that a Client's API uses.
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

// Errors and block tags of package block.
var (
	ErrNoState    = block.ErrNoState
	ParseBlockTag = block.ParseTag
	Latest        = block.Latest
	AtNumber      = block.AtNumber
	AtHash        = block.AtHash
)

// Options configure a Client.
type Options struct {
	ChainID    uint64     // the expected eth_chainId
	Tags       []BlockTag // in order of preference; at least one
	Verify     Verify
	Agreement  int        // how many providers must agree; 0 means 1
	BatchSize  int        // calls in one JSON-RPC batch, 1 or more
	Providers  []Provider // in order of preference; at least one
	UserAgent  string
	Observer   transport.Observer // optional
	RetryDelay time.Duration      // before the first retry of a transient failure; doubles each time. Zero means 500 ms
}

// Client reads one chain through its providers. It is safe for concurrent use.
type Client struct {
	*logs.Reader // Scan, DeploymentBlock and TxInfo

	opt       Options
	providers []*provider
	reading   sync.Mutex                 // held during a Read
	proven    atomic.Pointer[proofCache] // from earlier Reads; may be nil
}

// provider is one provider with its known limitations.
type provider struct {
	*transport.Client
	pauses sync.Map // pause by capability (toProve, toMulticall) or by the address of a contract that makes it slow
}

// parallel bounds the concurrent requests for contracts that are asked about one by one.
const parallel = 4

// pauseTime is how long a provider is not asked again for something that it could not do.
const pauseTime = 10 * time.Minute

// Capabilities that a provider may lack.
const (
	toProve     = "prove"
	toMulticall = "make multicalls"
)

// pause is why a provider is not asked for something, and until when.
type pause struct {
	why   error
	until time.Time
}

func (p *provider) pause(what any, why error) {
	p.pauses.Store(what, pause{why, time.Now().Add(pauseTime)})
}

// cannot returns why the provider is not asked for something now, or nil.
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
		return nil, fmt.Errorf("an agreement of %d needs as many providers, but there are only %d", opt.Agreement, len(opt.Providers))
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

// BlockAt returns the block with a number from the first provider that answers. The error is a *ReadError; it wraps
// ErrNoState if no provider has the block.
func (c *Client) BlockAt(ctx context.Context, number uint64) (Block, error) {
	at, err := c.Pin(ctx, PinRequest{Tags: []BlockTag{AtNumber(number)}})
	if err != nil {
		return Block{}, err
	}
	return at.Block, nil
}

// Check asks every provider for the chain id and for a block by the first tag that it can serve. It returns the providers
// that failed.
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
