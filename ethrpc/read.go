//go:build ignore

package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
)

// read pins a block with this provider and reads there.
// proofOnly: another provider has answered already, and only a proof would be better.
func (c *Client) read(ctx context.Context, p *provider, policy Policy, req Request, proofOnly bool) (*State, error) {
	if err := p.cannotProve(); proofOnly && err != nil {
		return nil, err
	}
	at, err := p.pinFrom(ctx, c.chainID, policy, req.NotBefore, func(ref any) []early { return c.earlyOf(p, req, ref) })
	if err != nil {
		return nil, err
	}
	s := &State{Provider: p.name, Policy: policy, Block: at.block, Head: at.head}
	if req.Questions != nil {
		s.questions = req.Questions(ctx, at.block)
	}
	if len(s.questions.Asks) == 0 {
		return s, nil
	}
	delay := p.retryDelay
	for try := 1; ; try++ {
		err = c.answer(ctx, p, at, s, req, proofOnly)
		if !errors.Is(err, errUnknownBlock) {
			return s, err
		}
		// A node that lags, or forgot the block's state, or a reorganisation: the block of that number tells.
		known, e := p.sameBlock(ctx, at)
		switch {
		case e != nil:
			return nil, e
		case try == tries && known:
			return nil, pruned(at, err)
		case try == tries:
			return nil, fmt.Errorf("reading at block %d (%s): %w", at.block.Number, at.block.Hash, err)
		}
		if err := httpx.Pause(ctx, delay, err); err != nil {
			return nil, err
		}
		delay *= 2
	}
}

// remember keeps what is proven for the next Read, unless that was asked aside.
func (c *Client) remember(m *memory, aside bool) {
	if m.revision == 0 && !m.volatile {
		c.revision++
		m.revision = c.revision
	}
	if !aside {
		c.proven = m
	}
}

// answer proves the answers where that is wanted and can be had, and otherwise reads them.
func (c *Client) answer(ctx context.Context, p *provider, at pin, s *State, req Request, proofOnly bool) error {
	if c.verify != VerifyOff {
		err := p.cannotProve()
		if c.verify == VerifyRequired || err == nil {
			var next *memory
			if next, err = p.prove(ctx, c.chainID, at, s.questions, c.proven, req.Sketch); err == nil {
				c.remember(next, req.Aside)
				next.fill(s)
				return nil
			}
		}
		if !errors.Is(err, ErrNoProof) || ctx.Err() != nil {
			return err
		}
		if p.cannotProve() == nil {
			p.noProof.Store(&refusal{err, time.Now().Add(proofPause)})
		}
		if c.verify == VerifyRequired || proofOnly {
			return err
		}
		s.Unproven = err
	}
	return p.readAt(ctx, at, s.questions, s)
}

// proofPause is how long a provider that could not prove, or bundle calls, is not asked to.
const proofPause = 10 * time.Minute

// refusal is why a provider cannot do something, for as long as that is believed.
type refusal struct {
	why   error
	until time.Time
}

func (p *provider) cannotProve() error { return p.noProof.Load().believed() }

func (r *refusal) believed() error {
	if r != nil && time.Now().Before(r.until) {
		return r.why
	}
	return nil
}

// pinFrom pins a block that is not older than notBefore, giving a node that lags behind time to catch up.
func (p *provider) pinFrom(ctx context.Context, chainID uint64, policy Policy, notBefore uint64, along func(ref any) []early) (pin, error) {
	delay := p.retryDelay
	for try := 1; ; try++ {
		at, err := p.pin(ctx, chainID, policy, along)
		if err != nil || at.block.Number >= notBefore {
			return at, err
		}
		err = fmt.Errorf("block %d is behind block %d, which was seen before", at.block.Number, notBefore)
		if try == tries {
			return pin{}, err
		}
		if err := httpx.Pause(ctx, delay, err); err != nil {
			return pin{}, err
		}
		delay *= 2
	}
}

// readAt asks everything at the pinned block and fills s.
func (p *provider) readAt(ctx context.Context, at pin, q Questions, s *State) error {
	s.doubt = nil
	s.Code, s.Control = map[common.Address]bool{}, map[common.Address]Control{}
	s.Answers = make(map[Ask]Answer, len(q.Asks))
	codes := map[common.Address]*call{}
	var calls []*call
	var control []*believedControl
	for _, c := range q.contracts() {
		codes[c] = &call{method: "eth_getCode", args: []any{c, at.ref()}}
		calls = append(calls, codes[c])
		if q.Control {
			b := askControl(at, c)
			control = append(control, b)
			calls = append(calls, b.calls()...)
		}
	}
	gets := make(map[Ask]*call, len(q.Asks))
	var lists []*call
	for _, a := range q.Asks {
		if a.Getter != "" && gets[a] == nil {
			gets[a] = ethCall(at, a)
			lists = append(lists, gets[a])
		}
	}
	// What leads to further calls comes first, so that those go along with the rest.
	room := max(int(p.batchSize.Load())-len(calls), 0)
	if len(control) == 0 {
		room = len(lists)
	}
	first := min(room, len(lists))
	err := p.do(ctx, append(calls, lists[:first]...))
	rest := lists[first:]
	for _, b := range control {
		if c := b.more(at); c != nil && err == nil {
			rest = append(rest, c)
		}
	}
	if err == nil {
		err = p.do(ctx, rest)
	}
	if err != nil {
		return fmt.Errorf("reading at block %d: %w", at.block.Number, err)
	}
	for _, list := range [][]*call{slices.Collect(maps.Values(codes)), lists} {
		for _, c := range list {
			if err := fault(at, c.err); err != nil {
				return err
			}
		}
	}
	code := map[common.Address][]byte{}
	for a, c := range codes {
		b, err := bytesOf(c.result)
		if err != nil {
			return fmt.Errorf("reading the code of %s: %w", a, err)
		}
		s.Code[a], code[a] = len(b) > 0, b
	}
	for _, b := range control {
		if !s.Code[b.contract] {
			continue
		}
		if s.Control[b.contract], err = b.read(at, code[b.contract]); err != nil {
			return err
		}
	}
	if err := s.take(q.Asks, gets); err != nil {
		return err
	}
	if !at.byNumber {
		return nil
	}
	known, err := p.sameBlock(ctx, at)
	if err == nil && !known {
		err = fmt.Errorf("block %d, which was just read, is gone", at.block.Number)
	}
	return err
}

// take reads what the getters of the lists said.
func (s *State) take(asks []Ask, gets map[Ask]*call) error {
	for _, ask := range asks {
		if !s.Code[ask.Contract] && s.doubt == nil {
			s.doubt = fmt.Errorf("there is no code at %s", ask.Contract)
		}
		if gets[ask] == nil {
			continue
		}
		answer := gets[ask].answer()
		s.Answers[ask] = answer
		if answer.Err == nil && !s.Code[ask.Contract] {
			return fmt.Errorf("the provider says that %s has no code, and yet answers calls to it", ask.Contract)
		}
		if answer.Err != nil && s.doubt == nil {
			s.doubt = fmt.Errorf("calling %s of %s: %w", ask.Getter, ask.Contract, answer.Err)
		}
	}
	return nil
}

func ethCall(at pin, a Ask) *call {
	return &call{method: "eth_call", args: []any{map[string]any{"to": a.Contract, "input": a.data()}, at.ref()}}
}

// answer reads what a getter said.
func (c *call) answer() Answer {
	if c.err != nil {
		return Answer{Err: c.err}
	}
	allowed, err := boolWord(c.result)
	return Answer{Allowed: allowed, Err: err}
}

// fault tells the provider's fault from the contract's answer: nil for no error, and for a revert.
func fault(at pin, err error) error {
	switch {
	case err == nil || isRevert(err):
		return nil
	case isUnknownBlock(err):
		return fmt.Errorf("%w: %w", errUnknownBlock, err)
	case isPruned(err):
		return pruned(at, err)
	default:
		return fmt.Errorf("reading at block %d: %w", at.block.Number, err)
	}
}

func pruned(at pin, err error) error {
	return fmt.Errorf("%w at block %d: use a provider that keeps older state, or a younger block policy such as `block: latest-5`: %w",
		ErrNoState, at.block.Number, err)
}

// sameBlock reports whether the provider knows a block of the pinned number. One with another hash is an error.
func (p *provider) sameBlock(ctx context.Context, at pin) (bool, error) {
	c := getBlock(hexutil.EncodeUint64(at.block.Number))
	if err := p.do(ctx, []*call{c}); err != nil {
		return false, fmt.Errorf("checking block %d again: %w", at.block.Number, err)
	}
	b, err := c.block()
	switch {
	case errors.Is(err, ErrNoState):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("checking block %d again: %w", at.block.Number, err)
	case b.Hash != at.block.Hash:
		return false, fmt.Errorf("the chain was reorganised between pin and read: block %d was %s and is now %s", at.block.Number, at.block.Hash, b.Hash)
	}
	return true, nil
}
