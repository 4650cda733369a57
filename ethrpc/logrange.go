package ethrpc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
)

const (
	maxLogData = 1 << 20 // bytes: the contract stores quotes of kilobytes
	maxTopics  = 4
)

func hex(n uint64) string { return hexutil.EncodeUint64(n) }

// fetch reads one range. The error is a *rangeError where a smaller range may do.
func (p *provider) fetch(ctx context.Context, req *ScanRequest, s *blockRange) error {
	if s.from < s.to {
		return p.fetchOnce(ctx, req, s)
	}
	// Nothing is smaller than one block: if it is the provider's lag, then time may help.
	return p.retryUnknownBlock(ctx, func() error { return p.fetchOnce(ctx, req, s) })
}

// fetchOnce asks for the logs together with the last block, since a node that lags behind may answer the logs that it
// knows of; the block that it does not know gives it away, and its hash is what the range stands on.
func (p *provider) fetchOnce(ctx context.Context, req *ScanRequest, s *blockRange) error {
	get := &call{method: getLogs, args: []any{map[string]any{
		"address": req.Contract, "topics": [][]common.Hash{req.Topics}, "fromBlock": hex(s.from), "toBlock": hex(s.to),
	}}}
	end := getBlock(hex(s.to))
	err := p.sameBatch(ctx, get, end)
	switch {
	case ctx.Err() != nil && err != nil:
	case err != nil:
		err = rangeTooWide(err, s)
	case get.err != nil && !isRPC(get.err, []int{-32601}):
		// The wordings are endless, and a provider that refuses for another reason is found out at a single block.
		err = &rangeError{get.err, suggested(wording(get.err), s.from, s.to)}
	case get.err != nil:
		err = get.err
	default:
		err = s.fill(req, get.result, end)
	}
	if err != nil {
		return fmt.Errorf("reading the logs of blocks %d to %d: %w", s.from, s.to, err)
	}
	return nil
}

// sameBatch makes the calls in one round trip where the provider takes batches, so that one node answers them. Unlike
// in do, nothing is learnt of batches: an HTTP status may be meant for the range.
func (p *provider) sameBatch(ctx context.Context, calls ...*call) error {
	if int(p.batchSize.Load()) >= len(calls) {
		if err := p.retry(ctx, calls); !isBatchRefused(err) || isTooWide(err) {
			return err
		}
	}
	for _, c := range calls {
		if err := p.retry(ctx, []*call{c}); err != nil {
			return err
		}
	}
	return nil
}

// retryUnknownBlock calls f again a little later where the provider does not know a block, as a node that lags behind.
func (p *provider) retryUnknownBlock(ctx context.Context, f func() error) error {
	delay := p.retryDelay
	for try := 1; ; try++ {
		err := f()
		if try == tries || !errors.Is(err, ErrNoState) && !isUnknownBlock(err) && !isRPC(err, nil, "beyond current head") {
			return err
		}
		if err := httpx.Pause(ctx, delay, err); err != nil {
			return err
		}
		delay *= 2
	}
}

// wireLog is a log as nodes send it. Without its place in the chain it is of no use.
type wireLog struct {
	Address     *common.Address `json:"address"`
	Topics      []common.Hash   `json:"topics"`
	Data        *hexutil.Bytes  `json:"data"`
	BlockNumber *quantity       `json:"blockNumber"`
	BlockHash   *common.Hash    `json:"blockHash"`
	TxHash      *common.Hash    `json:"transactionHash"`
	TxIndex     *quantity       `json:"transactionIndex"`
	Index       *quantity       `json:"logIndex"`
	Removed     bool            `json:"removed"`
}

// fill takes the answers in, once nothing is wrong with them.
func (s *blockRange) fill(req *ScanRequest, raw json.RawMessage, end *call) error {
	block, err := end.block()
	switch {
	case errors.Is(err, ErrNoState):
		return &rangeError{err: err}
	case err != nil:
		return fmt.Errorf("reading block %d: %w", s.to, err)
	case block.Number != s.to:
		return fmt.Errorf("asked for block %d, got %d", s.to, block.Number)
	case s.to == req.To && block.Hash != req.ToHash:
		return fmt.Errorf("%w: block %d was %s and is %s", ErrReorganised, s.to, req.ToHash, block.Hash)
	}
	var wire []*wireLog
	if err := json.Unmarshal(raw, &wire); err != nil {
		return foreign("the answer is no list of logs: %s", err.Error())
	}
	if wire == nil {
		return errNull
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
		l, next := &logs[i], types.Log{BlockNumber: s.to, BlockHash: block.Hash, Index: ^uint(0)}
		if i+1 < len(logs) {
			next = logs[i+1]
		}
		switch {
		case l.BlockNumber != next.BlockNumber:
		case l.Index == next.Index:
			return fmt.Errorf("two logs have the index %d of block %d", l.Index, l.BlockNumber)
		case l.BlockHash != next.BlockHash:
			return fmt.Errorf("block %d is %s to one answer and %s to another", l.BlockNumber, l.BlockHash, next.BlockHash)
		}
	}
	s.last, s.logs = block.Hash, logs
	return nil
}

// check refuses a log that is incomplete, or was not asked for.
func (w *wireLog) check(req *ScanRequest, s *blockRange) (types.Log, error) {
	bad := func(format string, args ...any) (types.Log, error) {
		return types.Log{}, fmt.Errorf("the answer holds a log "+format, args...)
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
	case !slices.Contains(req.Topics, w.Topics[0]):
		return bad("of the topic %s", w.Topics[0])
	case len(*w.Data) > maxLogData:
		return bad("of %d bytes", len(*w.Data))
	case w.Removed:
		return bad("that a reorganisation removed, of block %d", number)
	}
	return types.Log{
		Address: *w.Address, Topics: w.Topics, Data: *w.Data, BlockNumber: number, BlockHash: *w.BlockHash,
		TxHash: *w.TxHash, TxIndex: uint(*w.TxIndex), Index: uint(*w.Index),
	}, nil
}
