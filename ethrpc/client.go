package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Client reads one chain through its providers. It is safe for concurrent use.
type Client struct {
	chainID   uint64
	policies  []Policy
	verify    Verify
	agreement int
	providers []*provider

	mu     sync.Mutex // held by a Read
	proven *memory    // by the last read whose answers were proven

	revision uint64 // of what was proven last
}

// New returns a Client. It dials nobody: a provider that is down is found out by the first Read.
func New(opt Options) (*Client, error) {
	if len(opt.Policies) == 0 || len(opt.Providers) == 0 {
		return nil, errors.New("a chain needs a block policy and a provider")
	}
	c := &Client{chainID: opt.ChainID, policies: opt.Policies, verify: opt.Verify, agreement: max(opt.Agreement, 1)}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven = nil
}

// Request is what to read.
type Request struct {
	// Policies choose the block, in order of preference; nil: the Client's own.
	Policies []Policy
	// NotBefore refuses a block with a lower number, as a node that lags behind would serve.
	NotBefore uint64
	// Aside is a question beside those that are asked time and again: what it proves is not kept for the next Read.
	Aside bool
	// First is the provider to try before the others; empty: their order.
	First string
	// Likely are contracts that the questions will be about, so that what comes first is asked for at once.
	Likely []common.Address
	// Sketch leaves out the answers of a contract that stores more than the questions explain, rather than prove each:
	// more is to be asked. The State says so.
	Sketch bool
	// Questions is called once a block is pinned, again for each provider that is tried, and may wait. nil: only pin.
	Questions func(context.Context, Block) Questions
}

// Block is a block as a provider describes it.
type Block struct {
	Number uint64
	Hash   common.Hash
	Time   time.Time // UTC
}

// State is what one provider said at one block.
type State struct {
	Provider string
	Policy   Policy // the one used
	Block    Block
	Head     Block                   // the provider's newest block, of which only number and time are of use
	Code     map[common.Address]bool // whether code is deployed, for each contract asked about
	Answers  map[Ask]Answer          // one for each ask
	Failed   []ProviderError         // the providers, or policies, that were tried before

	Control   map[common.Address]Control  // of each contract with code, where Questions.Control is set
	Contracts map[common.Address]Contract // what is proven of each contract; nil where answers are not proven
	Unproven  error                       // why they are not
	Sketch    bool                        // some answers were left out
	Revision  uint64                      // two states of one Client that have the same one, which is not 0, have the same Code, Answers, Control and Contracts
	Agreed    int                         // providers that say the same of the block; where answers are not proven, of them too

	questions Questions
	world     *proof.World // that the answers were proven in; nil: they were not

	// doubt is the first reason to ask another provider too: a contract without code, or an answer of no known
	// shape, may be the contract's or the provider's fault.
	doubt error
}

// Read pins a block and reads there all that is asked. Providers are tried in their order until one has answered
// everything, and proven it unless VerifyOff; the next policy is tried only where none could serve the one before, and
// one could not because the state is not to be had. Where no provider proves, the first that answered everything
// counts, and where every one leaves something unanswered, the first that answered. With an agreement of k, k
// providers must then say the same. The error is a *ReadError, and what it tells is fit to show.
func (c *Client) Read(ctx context.Context, req Request) (*State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	policies := req.Policies
	if policies == nil {
		policies = c.policies
	}
	var failed []ProviderError
	for _, policy := range policies {
		var best *State
		noState := false
		for _, p := range c.from(req.First) {
			s, err := c.read(ctx, p, policy, req, best != nil && best.doubt == nil)
			if err == nil {
				err = cmp.Or(s.doubt, s.Unproven)
				if err == nil || best == nil || best.doubt != nil && s.doubt == nil {
					best = s
				}
				if err == nil {
					break
				}
			}
			noState = noState || errors.Is(err, ErrNoState)
			failed = append(failed, ProviderError{p.name, err})
			if ctx.Err() != nil {
				break
			}
		}
		switch {
		case best != nil:
			best.Failed = failed
			return c.agreed(ctx, best)
		case !noState || ctx.Err() != nil:
			return nil, &ReadError{failed}
		}
	}
	return nil, &ReadError{failed}
}

// from returns the providers, the named one first.
func (c *Client) from(first string) []*provider {
	i := slices.IndexFunc(c.providers, func(p *provider) bool { return p.name == first })
	if i < 1 {
		return c.providers
	}
	return slices.Concat(c.providers[i:i+1], c.providers[:i], c.providers[i+1:])
}

// Check asks every provider for the chain id and for a block by the first policy that it can serve, and returns what
// is wrong with each.
func (c *Client) Check(ctx context.Context) []ProviderError {
	var failed []ProviderError
	for _, p := range c.providers {
		var err error
		for _, policy := range c.policies {
			if _, err = p.pin(ctx, c.chainID, policy, nil); !errors.Is(err, ErrNoState) {
				break
			}
		}
		if err != nil {
			failed = append(failed, ProviderError{p.name, err})
		}
	}
	return failed
}
