package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// ScanRequest is which logs to read.
type ScanRequest struct {
	Contract       common.Address
	Topics         []common.Hash // a log's first topic is one of these
	From, To       uint64        // inclusive; with From above To only the hashes are checked
	ToHash         common.Hash   // of block To, the pinned one
	After          common.Hash   // of the block before From, up to which was read before; zero: nothing was
	Step           uint64        // blocks of the first range, and of the largest; zero: 10,000
	ProviderOffset uint          // moves on which provider is asked first: one that left logs out does so again
	// OnBatch is handed the logs of the blocks from to to, sorted, and last, the hash of block to. Pieces are contiguous,
	// come in order, one at a time, and may be empty. Its error ends the scan. Progress that is kept stands on last:
	// pieces handed on before an error may be of a branch that is gone.
	OnBatch func(from, to uint64, last common.Hash, logs []types.Log) error
}

// ErrReorganised marks a block that is not what it was at the pin, or when its logs were read.
var ErrReorganised = errors.New("the chain was reorganised")

// Scan reads every log that req names and returns the name of the provider that ended it. Where a provider fails, the
// next one takes over behind the last piece that was handed on. A reorganisation seen after a piece was handed on is
// an error, and so is one of OnBatch, which is returned wrapped; any other error is a *ReadError.
//
// Ranges are what providers differ in most: one that refuses is asked for smaller ones, down to a single block. A
// provider that leaves logs out, or answers an empty list for blocks that it no longer keeps, cannot be told from one
// that has none to show: that every log is there is for the proof of the contract's storage to say.
func (c *Client) Scan(ctx context.Context, req ScanRequest) (provider string, err error) {
	var failed []ProviderError
	var refused error // by OnBatch
	marks := []Block{{Number: req.To, Hash: req.ToHash}}
	if req.After != (common.Hash{}) {
		marks = append(marks, Block{Number: req.From - 1, Hash: req.After})
	}
	first := int(req.ProviderOffset % uint(len(c.providers)))
	for _, p := range slices.Concat(c.providers[first:], c.providers[:first]) {
		begun := req.From
		err := p.scan(ctx, c.chainID, req, marks, func(s *blockRange) error {
			if refused = req.OnBatch(s.from, s.to, s.last, s.logs); refused != nil {
				return refused
			}
			req.From = s.to + 1
			marks = []Block{marks[0], {Number: s.to, Hash: s.last}}
			return nil
		})
		switch {
		case err == nil:
			return p.name, nil
		case refused != nil:
			return p.name, fmt.Errorf("handing on the logs from block %d: %w", req.From, refused)
		}
		failed = append(failed, ProviderError{p.name, err})
		if ctx.Err() != nil || errors.Is(err, ErrReorganised) && req.From > begun {
			break
		}
	}
	return "", &ReadError{failed}
}

// blockRange is some blocks of a scan.
type blockRange struct {
	from, to uint64
	state    int
	last     common.Hash // of block to
	logs     []types.Log
	err      error
}

// The states of a range, in their order.
const (
	waiting = iota
	underWay
	read
)

// inFlight bounds the ranges that are read, or wait for an earlier one to be handed on.
const inFlight = 2 * parallel

// scan reads with one provider, which must have every mark at its number before, and still has To afterwards.
func (p *provider) scan(ctx context.Context, chainID uint64, req ScanRequest, marks []Block, deliver func(*blockRange) error) error {
	if err := p.stands(ctx, chainID, marks...); err != nil {
		return err
	}
	if req.From <= req.To {
		if err := p.blockRanges(ctx, req, deliver); err != nil {
			return err
		}
	}
	return p.stands(ctx, chainID, marks[0])
}

// blockRanges reads several ranges at once and delivers them in order. What a provider refuses goes back to its
// place in the list, and is cut smaller when its turn comes again.
func (p *provider) blockRanges(parent context.Context, req ScanRequest, deliver func(*blockRange) error) error {
	ctx, cancel := context.WithCancel(parent)
	results := make(chan *blockRange)
	running := 0
	defer func() {
		cancel()
		for range running {
			<-results
		}
	}()
	size := newRangeSizer(req.Step)
	list := []*blockRange{{from: req.From, to: req.To}}
	for len(list) > 0 {
		for running < parallel {
			i := slices.IndexFunc(list, func(s *blockRange) bool { return s.state == waiting })
			if i < 0 || i >= inFlight {
				break
			}
			s := list[i]
			if s.to-s.from >= size.blocks {
				rest := &blockRange{from: s.from + size.blocks, to: s.to}
				s.to = rest.from - 1
				list = slices.Insert(list, i+1, rest)
			}
			s.state = underWay
			running++
			go func() {
				s.err = p.fetch(ctx, &req, s)
				results <- s
			}()
		}
		s := <-results
		running--
		n := s.to - s.from + 1
		var narrow *rangeError
		switch {
		case s.err == nil:
			s.state = read
			size.accepted(n)
		case n > 1 && errors.As(s.err, &narrow):
			s.state = waiting
			size.refused(n, narrow.blocks)
		default:
			return s.err
		}
		for len(list) > 0 && list[0].state == read {
			if err := deliver(list[0]); err != nil {
				return err
			}
			list = list[1:]
		}
	}
	return nil
}

// stands refuses a provider of another chain, and one that has another block at one of the numbers.
func (p *provider) stands(ctx context.Context, chainID uint64, blocks ...Block) error {
	return p.retryUnknownBlock(ctx, func() error {
		calls := []*call{{method: "eth_chainId"}}
		for _, b := range blocks {
			calls = append(calls, getBlock(hex(b.Number)))
		}
		if err := p.do(ctx, calls); err != nil {
			return fmt.Errorf("checking block %d: %w", blocks[0].Number, err)
		}
		if err := checkChainID(calls[0], chainID); err != nil {
			return err
		}
		for i, want := range blocks {
			got, err := calls[i+1].block()
			switch {
			case err != nil:
				return fmt.Errorf("checking block %d: %w", want.Number, err)
			case got.Number != want.Number:
				return fmt.Errorf("asked for block %d, got %d", want.Number, got.Number)
			case got.Hash != want.Hash:
				return fmt.Errorf("%w: block %d was %s and is %s", ErrReorganised, want.Number, want.Hash, got.Hash)
			}
		}
		return nil
	})
}
