package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// receiptWeight is the weight of one receipt; 8 go into one request. A transaction of 30 million gas has up to 10,000 logs.
const receiptWeight = transport.MaxWeight / 8

// receipt is the used part of a transaction receipt.
type receipt struct {
	TxHash    *common.Hash `json:"transactionHash"`
	BlockHash *common.Hash `json:"blockHash"`
	Logs      *[]*wireLog  `json:"logs"`
}

// readReceipts reads the logs of one block from its receipts, because anybody can fill a block with more logs than a provider
// serves by eth_getLogs. If the provider does not serve eth_getBlockReceipts either, it reads the receipts one by one.
func (s *blockRange) readReceipts(ctx context.Context, p *transport.Client, req *Request) error {
	end := block.AtNumber(s.to).Ask()
	if err := p.Do(ctx, end); err != nil {
		return err
	}
	last, err := block.Decode(end)
	if err != nil {
		return err
	}
	var txs struct{ Transactions []common.Hash }
	if err := json.Unmarshal(end.Result, &txs); err != nil {
		return errors.New("the block's transactions are not a list of hashes")
	}
	var all []receipt
	whole := &transport.Call{Method: "eth_getBlockReceipts", Args: []any{last.Hash}, Weight: transport.MaxWeight}
	if err = p.Do(ctx, whole); err == nil {
		err = whole.Decode(&all)
	}
	if err != nil || len(all) != len(txs.Transactions) {
		if all, err = oneByOne(ctx, p, txs.Transactions); err != nil {
			return err
		}
	}
	logs := []*wireLog{}
	for i, r := range all {
		if r.TxHash == nil || *r.TxHash != txs.Transactions[i] || r.BlockHash == nil || *r.BlockHash != last.Hash || r.Logs == nil {
			return fmt.Errorf("receipt %d is not of transaction %d of block %d", i, i, s.to)
		}
		for _, l := range *r.Logs {
			if l != nil && l.Address != nil && *l.Address == req.Contract && req.wants(l.Topics) {
				logs = append(logs, l)
			}
		}
	}
	return s.fill(req, logs, end)
}

func oneByOne(ctx context.Context, p *transport.Client, txs []common.Hash) ([]receipt, error) {
	calls, all := make([]*transport.Call, len(txs)), make([]receipt, len(txs))
	for i, tx := range txs {
		calls[i] = &transport.Call{Method: "eth_getTransactionReceipt", Args: []any{tx}, Weight: receiptWeight}
	}
	if err := p.Do(ctx, calls...); err != nil && !transport.IsTooLarge(err) {
		return nil, err
	}
	for i, c := range calls {
		if !c.Answered() { // its batch was too large
			if err := p.Do(ctx, c); err != nil {
				return nil, err
			}
		}
		if c.Err != nil {
			return nil, c.Err
		}
		if err := json.Unmarshal(c.Result, &all[i]); err != nil {
			return nil, fmt.Errorf("receipt %d cannot be decoded", i)
		}
	}
	return all, nil
}
