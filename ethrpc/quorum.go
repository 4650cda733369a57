//go:build ignore

package ethrpc

import (
	"context"
	"fmt"
	"strings"
)

// DisagreementError is two providers that say different things of one block.
type DisagreementError struct {
	Providers [2]string
	Block     Block
	What      string // what both say, fit to show
}

func (e *DisagreementError) Error() string {
	return fmt.Sprintf("%s and %s disagree about block %d: %s", e.Providers[0], e.Providers[1], e.Block.Number, e.What)
}

// agreed asks further providers until enough say the same: of the block's hash, and where the answers are not proven,
// of every answer. One proof needs no second opinion.
func (c *Client) agreed(ctx context.Context, s *State) (*State, error) {
	s.Agreed = 1
	failed := s.Failed
	for _, p := range c.providers {
		if s.Agreed >= c.agreement {
			break
		}
		if p.name == s.Provider {
			continue
		}
		err := c.second(ctx, p, s)
		if err == nil {
			s.Agreed++
			continue
		}
		failed = append(failed, ProviderError{p.name, err})
	}
	if s.Agreed < c.agreement {
		err := fmt.Errorf("%d of the %d providers that must agree say the same", s.Agreed, c.agreement)
		return nil, &ReadError{append(failed, ProviderError{s.Provider, err})}
	}
	s.Failed = failed
	return s, nil
}

// second asks another provider for the same block.
func (c *Client) second(ctx context.Context, p *provider, s *State) error {
	at, err := p.pin(ctx, c.chainID, AtNumber(s.Block.Number), nil)
	if err != nil {
		return err
	}
	if at.block.Hash != s.Block.Hash {
		return &DisagreementError{[2]string{s.Provider, p.name}, s.Block, fmt.Sprintf("its hash is %s, or %s", s.Block.Hash, at.block.Hash)}
	}
	if s.Unproven == nil && c.verify != VerifyOff || len(s.questions.Asks) == 0 {
		return nil
	}
	var other State
	if err := p.readAt(ctx, at, s.questions, &other); err != nil {
		return err
	}
	var differ []string
	for _, ask := range s.questions.Asks {
		a, b := s.Answers[ask], other.Answers[ask]
		if s.Code[ask.Contract] != other.Code[ask.Contract] || a.Allowed != b.Allowed || (a.Err == nil) != (b.Err == nil) {
			differ = append(differ, fmt.Sprintf("%s(%s) is %s, or %s", ask.Getter, ask.ID, a, b))
		}
	}
	for c, mine := range s.Control {
		if theirs := other.Control[c]; !mine.equal(theirs) {
			differ = append(differ, fmt.Sprintf("%s is %s, or %s", c, mine, theirs))
		}
	}
	if len(differ) > 0 {
		return &DisagreementError{[2]string{s.Provider, p.name}, s.Block, strings.Join(differ[:min(len(differ), 3)], "; ")}
	}
	return nil
}
