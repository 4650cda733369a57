package ethrpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
)

// DeploymentBlock returns the first block at which the contract has code, looked for up to block to, where it must have some. The
// error is a *ReadError, and ErrNoState where providers do not keep state old enough. What is found is as good as the
// provider's memory: one that answers without an error that nothing was there before some block is believed, and so
// is one whose contract was destroyed and came back.
func (c *Client) DeploymentBlock(ctx context.Context, contract common.Address, to uint64) (uint64, error) {
	var failed []ProviderError
	for _, p := range c.providers {
		first, err := p.deploymentBlock(ctx, c.chainID, contract, to)
		if err == nil {
			return first, nil
		}
		failed = append(failed, ProviderError{p.name, fmt.Errorf("finding the first block of %s: %w", contract, err)})
		if ctx.Err() != nil {
			break
		}
	}
	return 0, &ReadError{failed}
}

// deploymentBlock keeps two things true: before block low there is no code, at block high there is.
func (p *provider) deploymentBlock(ctx context.Context, chainID uint64, contract common.Address, high uint64) (uint64, error) {
	id := &call{method: "eth_chainId"}
	if err := p.do(ctx, []*call{id}); err != nil {
		return 0, err
	}
	if err := checkChainID(id, chainID); err != nil {
		return 0, err
	}
	has, err := p.codeAt(ctx, contract, high)
	if err != nil {
		return 0, err
	}
	if !has {
		return 0, fmt.Errorf("it has no code at block %d", high)
	}
	for low := uint64(0); low < high; {
		mid := low + (high-low)/2
		switch has, err := p.codeAt(ctx, contract, mid); {
		case err != nil:
			return 0, err
		case has:
			high = mid
		default:
			low = mid + 1
		}
	}
	return high, nil
}

// codeAt reports whether the contract has code at a block.
func (p *provider) codeAt(ctx context.Context, contract common.Address, block uint64) (bool, error) {
	c := &call{method: "eth_getCode", args: []any{contract, hex(block)}}
	err := p.do(ctx, []*call{c})
	if err == nil {
		err = c.err
	}
	switch {
	case isPruned(err) || isUnknownBlock(err) || errors.Is(err, errNull):
		return false, fmt.Errorf("%w at block %d: set from_block of the contract to the block of its deployment, or use a provider that keeps all state: %w",
			ErrNoState, block, err)
	case err != nil:
		return false, fmt.Errorf("reading the code at block %d: %w", block, err)
	}
	code, err := bytesOf(c.result)
	if err != nil {
		return false, fmt.Errorf("reading the code at block %d: %w", block, err)
	}
	return len(code) > 0, nil
}
