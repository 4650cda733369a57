package ethrpc

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// LogRef is where a log stands.
type LogRef struct{ Block, Tx common.Hash }

// TxInfo is when and by whom. What no provider told is zero.
type TxInfo struct {
	BlockTime time.Time // UTC
	Sender    common.Address
}

// TxInfo returns when the blocks were made and who sent the transactions. Unverified; display only: there is one for every
// place, but providers are believed, and what none of them tells is left out without an error.
func (c *Client) TxInfo(ctx context.Context, refs []LogRef) map[LogRef]TxInfo {
	times := map[common.Hash]time.Time{}
	senders := map[LogRef]common.Address{}
	for _, p := range c.providers {
		p.txInfo(ctx, refs, times, senders)
	}
	out := make(map[LogRef]TxInfo, len(refs))
	for _, at := range refs {
		out[at] = TxInfo{times[at.Block], senders[at]}
	}
	return out
}

// origins asks for what is still missing.
func (p *provider) txInfo(ctx context.Context, refs []LogRef, times map[common.Hash]time.Time, senders map[LogRef]common.Address) {
	blocks := map[common.Hash]*call{}
	txs := map[LogRef]*call{}
	var calls []*call
	for _, at := range refs {
		if _, known := times[at.Block]; !known && blocks[at.Block] == nil {
			blocks[at.Block] = &call{method: "eth_getBlockByHash", args: []any{at.Block, false}}
			calls = append(calls, blocks[at.Block])
		}
		if _, known := senders[at]; !known && txs[at] == nil {
			txs[at] = &call{method: "eth_getTransactionByHash", args: []any{at.Tx}}
			calls = append(calls, txs[at])
		}
	}
	// An error is of one batch: what the others brought is good.
	_ = p.do(ctx, calls)
	for hash, c := range blocks {
		if b, err := c.block(); err == nil && b.Hash == hash {
			times[hash] = b.Time
		}
	}
	for at, c := range txs {
		var tx struct {
			Hash, BlockHash *common.Hash
			From            *common.Address
		}
		if c.err != nil || json.Unmarshal(c.result, &tx) != nil || tx.Hash == nil || tx.BlockHash == nil || tx.From == nil {
			continue
		}
		if *tx.Hash == at.Tx && *tx.BlockHash == at.Block {
			senders[at] = *tx.From
		}
	}
}
