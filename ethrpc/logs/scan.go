// Package logs reads a contract's events. Scan reads them in block ranges as large as a provider serves. DeploymentBlock finds the
// first block to scan. TxInfo reads the time and the sender of a transaction.
//
// A provider may leave logs out, or return an empty list for blocks that it no longer keeps. This package cannot detect that:
// only the proof of the contract's storage shows that no log is missing.
package logs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Reader reads the logs of one chain. It is safe for concurrent use.
type Reader struct {
	chainID   uint64
	providers []*transport.Client
}

// New returns a Reader of a chain through its providers, at least one, in order of preference.
func New(chainID uint64, providers []*transport.Client) *Reader { return &Reader{chainID, providers} }

// Request says which logs to read.
type Request struct {
	Contract       common.Address
	Filters        []Filter    // a log must pass one of them
	From, To       uint64      // block numbers, inclusive; if From is above To, only the hashes are checked
	ToHash         common.Hash // of block To, the pinned block
	After          common.Hash // of block From-1, at which an earlier Scan ended; zero if there was none
	Step           uint64      // blocks in the first range; at most 10,000, which zero means too
	ProviderOffset uint        // rotates the order of providers; change it if a provider left logs out
	// OnBatch receives the sorted logs of the blocks from to to, and last, the hash of block to. Batches are contiguous, in
	// order and may be empty; calls do not overlap. An error from OnBatch ends the scan. Store last with the progress: batches
	// before an error may be of a branch that was reorganised away.
	OnBatch func(from, to uint64, last common.Hash, logs []types.Log) error
}

// Filter lists the allowed topics by position, as in eth_getLogs. An empty position matches any topic.
type Filter [][]common.Hash

func (f Filter) passes(topics []common.Hash) bool {
	for i, any := range f {
		if len(any) > 0 && (i >= len(topics) || !slices.Contains(any, topics[i])) {
			return false
		}
	}
	return true
}

func (r *Request) wants(topics []common.Hash) bool {
	return slices.ContainsFunc(r.Filters, func(f Filter) bool { return f.passes(topics) })
}

// Batch reads all logs up to the pinned block in one range, with calls that share a batch with others. It is for one provider
// that has the pinned block. If any answer is missing or invalid, none is used.
type Batch struct {
	Request
	Public bool // the caller's mark

	gets []*transport.Call
	end  *transport.Call
}

// CallsUpTo returns the calls to make along with the pin; ref is the block's tag or number.
func (b *Batch) CallsUpTo(ref string) []*transport.Call {
	b.gets = getLogs(&b.Request, b.From, ref)
	return b.gets
}

// Pinned sets the block that was pinned; raw is the provider's answer.
func (b *Batch) Pinned(at block.Block, raw json.RawMessage) {
	b.To, b.ToHash, b.end = at.Number, at.Hash, &transport.Call{Result: raw}
}

// Calls returns the calls to make if the block is known already.
func (b *Batch) Calls() []*transport.Call {
	b.gets, b.end = getLogs(&b.Request, b.From, hexutil.EncodeUint64(b.To)), block.AtNumber(b.To).Ask()
	return append(slices.Clip(b.gets), b.end)
}

// Logs returns the sorted logs, or why the answers cannot be used. After an error, a Scan should begin with Step.
func (b *Batch) Logs() ([]types.Log, error) {
	if b.end == nil || slices.ContainsFunc(append(slices.Clip(b.gets), b.end), func(c *transport.Call) bool { return !c.Answered() }) {
		return nil, errors.New("not all calls were answered")
	}
	all := blockRange{from: b.From, to: b.To}
	err := all.take(&b.Request, b.gets, b.end)
	if refused, ok := errors.AsType[*rangeError](err); ok {
		b.Step = refused.blocks
	}
	return all.logs, err
}

// ErrReorganised reports that a block's hash has changed since the pin, or since its logs were read.
var ErrReorganised = errors.New("the chain was reorganised")

// Scan reads every log that req asks for, and returns the name of the last provider used. If a provider fails, the next one
// continues after the last delivered batch. A reorganisation after a delivered batch ends the scan. An error of OnBatch is
// returned wrapped; any other error is a *ReadError.
func (r *Reader) Scan(ctx context.Context, req Request) (provider string, err error) {
	var failed []transport.ProviderError
	var refused error // by OnBatch
	marks := []block.Block{{Number: req.To, Hash: req.ToHash}}
	if req.After != (common.Hash{}) {
		marks = append(marks, block.Block{Number: req.From - 1, Hash: req.After})
	}
	first := int(req.ProviderOffset % uint(len(r.providers)))
	for _, p := range slices.Concat(r.providers[first:], r.providers[:first]) {
		begun := req.From
		err := r.scan(ctx, p, req, marks, func(s *blockRange) error {
			if refused = req.OnBatch(s.from, s.to, s.last, s.logs); refused != nil {
				return refused
			}
			req.From = s.to + 1
			marks = []block.Block{marks[0], {Number: s.to, Hash: s.last}}
			return nil
		})
		switch {
		case err == nil:
			return p.Name, nil
		case refused != nil:
			return p.Name, fmt.Errorf("delivering the logs from block %d: %w", req.From, refused)
		}
		failed = append(failed, transport.ProviderError{Provider: p.Name, Err: err})
		if ctx.Err() != nil || errors.Is(err, ErrReorganised) && req.From > begun {
			break
		}
	}
	return "", &transport.ReadError{Failures: failed}
}

// scan reads with one provider. The provider must have the marked blocks before, and still have block To afterwards.
func (r *Reader) scan(ctx context.Context, p *transport.Client, req Request, marks []block.Block, deliver func(*blockRange) error) error {
	if err := r.checkMarks(ctx, p, marks); err != nil {
		return err
	}
	if err := scanRanges(ctx, p, req, deliver); err != nil {
		return err
	}
	return r.checkMarks(ctx, p, marks[:1])
}

// blockRange is a range of blocks, with its logs once they are read.
type blockRange struct {
	from, to uint64
	last     common.Hash // of block to
	logs     []types.Log
	err      error
}

// parallel is the number of ranges that are read concurrently.
const parallel = 4

// scanRanges reads ranges concurrently and delivers them in order. After a refusal it reads smaller ranges, one at a time until
// one is served.
func scanRanges(ctx context.Context, p *transport.Client, req Request, deliver func(*blockRange) error) error {
	size, atOnce := newRangeSizer(req.Step), parallel
	for next := req.From; next <= req.To; {
		var ranges []*blockRange
		var wg sync.WaitGroup
		for from := next; from <= req.To && len(ranges) < atOnce; {
			s := &blockRange{from: from, to: from + min(req.To-from, size.blocks-1)}
			ranges, from = append(ranges, s), s.to+1
			wg.Go(func() { s.err = s.read(ctx, p, &req) })
		}
		wg.Wait()
		atOnce = parallel
		for _, s := range ranges {
			n := s.to - s.from + 1
			narrow, refused := errors.AsType[*rangeError](s.err)
			if refused && n > 1 {
				size.refused(n, narrow.blocks)
				atOnce = 1
				break
			}
			if s.err != nil {
				return s.err
			}
			size.accepted(n)
			if err := deliver(s); err != nil {
				return err
			}
			next = s.to + 1
		}
	}
	return nil
}

// checkMarks returns an error if the provider is of another chain, or has another block at one of the numbers.
func (r *Reader) checkMarks(ctx context.Context, p *transport.Client, marks []block.Block) error {
	return p.Retry(ctx, isLagging, func() error {
		calls := []*transport.Call{block.ChainID()}
		for _, b := range marks {
			calls = append(calls, block.AtNumber(b.Number).Ask())
		}
		if err := p.Do(ctx, calls...); err != nil {
			return fmt.Errorf("checking block %d: %w", marks[0].Number, err)
		}
		if err := block.CheckChainID(calls[0], r.chainID); err != nil {
			return err
		}
		for i, want := range marks {
			got, err := block.Decode(calls[i+1])
			switch {
			case err != nil:
				return fmt.Errorf("checking block %d: %w", want.Number, err)
			case got.Number != want.Number:
				return fmt.Errorf("asked for block %d, got %d", want.Number, got.Number)
			case got.Hash != want.Hash:
				return reorganised(want, got)
			}
		}
		return nil
	})
}

func reorganised(was, is block.Block) error {
	return fmt.Errorf("%w: block %d was %s and is %s", ErrReorganised, was.Number, was.Hash, is.Hash)
}

// isLagging reports whether a provider does not know a block, because it may lag behind.
func isLagging(err error) bool {
	return errors.Is(err, block.ErrNoState) || transport.IsUnknownBlock(err) || transport.IsRPC(err, nil, "beyond current head")
}

const (
	maxLogData = 1 << 20 // bytes; the contract stores quotes of some kilobytes
	maxTopics  = 4
)

// read reads the logs of a range. The error is a *rangeError if a smaller range may succeed. For a single block it retries while
// the provider lags; otherwise it reads the receipts.
func (s *blockRange) read(ctx context.Context, p *transport.Client, req *Request) error {
	lags := func(err error) bool { return s.from == s.to && isLagging(err) }
	err := p.Retry(ctx, lags, func() error { return s.fetch(ctx, p, req) })
	if _, refused := errors.AsType[*rangeError](err); !refused || s.from < s.to || isLagging(err) || ctx.Err() != nil {
		return err
	}
	if e := s.readReceipts(ctx, p, req); e != nil {
		return fmt.Errorf("%w; by the block's receipts: %w", err, e)
	}
	return nil
}

// fetch asks for the logs together with the last block. A lagging node may return the logs of the blocks that it has, but not
// that block. The block's hash also detects a later reorganisation.
func (s *blockRange) fetch(ctx context.Context, p *transport.Client, req *Request) error {
	gets, end := getLogs(req, s.from, hexutil.EncodeUint64(s.to)), block.AtNumber(s.to).Ask()
	err := p.Do(ctx, append(slices.Clip(gets), end)...)
	switch {
	case err != nil && ctx.Err() != nil:
	case err != nil:
		err = s.tooWide(err)
	default:
		err = s.take(req, gets, end)
	}
	if err != nil {
		return fmt.Errorf("reading the logs of blocks %d to %d: %w", s.from, s.to, err)
	}
	return nil
}

func getLogs(req *Request, from uint64, to string) (gets []*transport.Call) {
	for _, f := range req.Filters {
		gets = append(gets, &transport.Call{Method: "eth_getLogs", Args: []any{map[string]any{
			"address": req.Contract, "topics": f, "fromBlock": hexutil.EncodeUint64(from), "toBlock": to,
		}}})
	}
	return gets
}

// take checks the answers and sets the range's logs.
func (s *blockRange) take(req *Request, gets []*transport.Call, end *transport.Call) error {
	all := []*wireLog{}
	for _, get := range gets {
		var some []*wireLog
		switch {
		case get.Err != nil && !transport.IsRPC(get.Err, []int{-32601}):
			// Providers word refusals in many ways. One that refuses for another reason also refuses a single block.
			return s.refusedFor(get.Err)
		case get.Err != nil:
			return get.Err
		}
		if err := json.Unmarshal(get.Result, &some); err != nil {
			return fmt.Errorf("the answer is not a list of logs: %s", sanitize.Quote(err.Error()))
		}
		if some == nil {
			all = nil
			break
		}
		all = append(all, some...)
	}
	return s.fill(req, all, end)
}

// wireLog is a log in an answer to eth_getLogs.
type wireLog struct {
	Address     *common.Address     `json:"address"`
	Topics      []common.Hash       `json:"topics"`
	Data        *hexutil.Bytes      `json:"data"`
	BlockNumber *transport.Quantity `json:"blockNumber"`
	BlockHash   *common.Hash        `json:"blockHash"`
	TxHash      *common.Hash        `json:"transactionHash"`
	TxIndex     *transport.Quantity `json:"transactionIndex"`
	Index       *transport.Quantity `json:"logIndex"`
	Removed     bool                `json:"removed"`
	Time        *transport.Quantity `json:"blockTimestamp"` // only from newer nodes
}

func (s *blockRange) fill(req *Request, wire []*wireLog, end *transport.Call) error {
	last, err := block.Decode(end)
	switch {
	case errors.Is(err, block.ErrNoState):
		return &rangeError{err: err}
	case err != nil:
		return fmt.Errorf("reading block %d: %w", s.to, err)
	case last.Number != s.to:
		return fmt.Errorf("asked for block %d, got %d", s.to, last.Number)
	case s.to == req.To && last.Hash != req.ToHash:
		return reorganised(block.Block{Number: s.to, Hash: req.ToHash}, last)
	}
	if wire == nil {
		return transport.ErrNull
	}
	logs := make([]types.Log, len(wire))
	for i, w := range wire {
		if logs[i], err = w.check(req, s); err != nil {
			return err
		}
	}
	slices.SortFunc(logs, func(a, b types.Log) int {
		return cmp.Or(cmp.Compare(a.BlockNumber, b.BlockNumber), cmp.Compare(a.Index, b.Index))
	})
	for i := range logs {
		l, next := &logs[i], types.Log{BlockNumber: s.to, BlockHash: last.Hash, Index: ^uint(0)}
		if i+1 < len(logs) {
			next = logs[i+1]
		}
		switch {
		case l.BlockNumber != next.BlockNumber:
		case l.Index == next.Index:
			return fmt.Errorf("two logs have the index %d of block %d", l.Index, l.BlockNumber)
		case l.BlockHash != next.BlockHash:
			return fmt.Errorf("block %d has the hash %s in one answer and %s in another", l.BlockNumber, l.BlockHash, next.BlockHash)
		}
	}
	s.last, s.logs = last.Hash, logs
	return nil
}

// check returns an error if a log is incomplete or was not asked for.
func (w *wireLog) check(req *Request, s *blockRange) (types.Log, error) {
	bad := func(format string, args ...any) (types.Log, error) {
		return types.Log{}, fmt.Errorf("the answer has a log "+format, args...)
	}
	if w == nil || w.Address == nil || w.Data == nil || w.BlockNumber == nil || w.BlockHash == nil || w.TxHash == nil || w.TxIndex == nil || w.Index == nil {
		return bad("that lacks a field")
	}
	number := uint64(*w.BlockNumber)
	switch {
	case *w.Address != req.Contract:
		return bad("of the contract %s", w.Address)
	case number < s.from || number > s.to:
		return bad("of block %d", number)
	case len(w.Topics) == 0 || len(w.Topics) > maxTopics:
		return bad("with %d topics", len(w.Topics))
	case !req.wants(w.Topics):
		return bad("of the topic %s", w.Topics[0])
	case len(*w.Data) > maxLogData:
		return bad("of %d bytes", len(*w.Data))
	case w.Removed:
		return bad("that a reorganisation removed, of block %d", number)
	}
	l := types.Log{
		Address: *w.Address, Topics: w.Topics, Data: *w.Data, BlockNumber: number, BlockHash: *w.BlockHash,
		TxHash: *w.TxHash, TxIndex: uint(*w.TxIndex), Index: uint(*w.Index),
	}
	if w.Time != nil && uint64(*w.Time) <= uint64(block.MaxTime.Unix()) {
		l.BlockTimestamp = uint64(*w.Time)
	}
	return l, nil
}
