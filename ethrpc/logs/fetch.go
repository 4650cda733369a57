package logs

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

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	maxLogData = 1 << 20 // bytes: the contract stores quotes of kilobytes
	maxTopics  = 4
)

// read reads the logs of a range. The error is a *rangeError where a smaller range may do.
func (s *blockRange) read(ctx context.Context, p *transport.Client, req *Request) error {
	fetch := func() error { return s.fetch(ctx, p, req) }
	if s.from < s.to {
		return fetch()
	}
	// Nothing is smaller than one block: if it is the provider's lag, then time may help.
	return p.Retry(ctx, isLagging, fetch)
}

// fetch asks for the logs together with the last block, since a node that lags behind may answer the logs that it
// knows of; the block that it does not know gives it away, and its hash is what the range stands on.
func (s *blockRange) fetch(ctx context.Context, p *transport.Client, req *Request) error {
	get := &transport.Call{Method: "eth_getLogs", Args: []any{map[string]any{
		"address": req.Contract, "topics": [][]common.Hash{req.Topics},
		"fromBlock": hexutil.EncodeUint64(s.from), "toBlock": hexutil.EncodeUint64(s.to),
	}}}
	end := block.AtNumber(s.to).Ask()
	err := p.Do(ctx, get, end)
	switch {
	case err != nil && ctx.Err() != nil:
	case err != nil:
		err = s.tooWide(err)
	case get.Err != nil && !transport.IsRPC(get.Err, []int{-32601}):
		// The wordings are endless, and a provider that refuses for another reason is found out at a single block.
		err = &rangeError{get.Err, s.suggested(get.Err)}
	case get.Err != nil:
		err = get.Err
	default:
		err = s.fill(req, get.Result, end)
	}
	if err != nil {
		return fmt.Errorf("reading the logs of blocks %d to %d: %w", s.from, s.to, err)
	}
	return nil
}

// wireLog is a log as nodes send it. Without its place in the chain it is of no use.
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
}

// fill takes the answers in, once nothing is wrong with them.
func (s *blockRange) fill(req *Request, raw json.RawMessage, end *transport.Call) error {
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
	var wire []*wireLog
	if err := json.Unmarshal(raw, &wire); err != nil {
		return fmt.Errorf("the answer is no list of logs: %s", sanitize.Quote(err.Error()))
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
			return fmt.Errorf("block %d is %s to one answer and %s to another", l.BlockNumber, l.BlockHash, next.BlockHash)
		}
	}
	s.last, s.logs = last.Hash, logs
	return nil
}

// check refuses a log that is incomplete, or was not asked for.
func (w *wireLog) check(req *Request, s *blockRange) (types.Log, error) {
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
