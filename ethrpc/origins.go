package ethrpc

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Place is where a log stands.
type Place struct{ Block, Tx common.Hash }

// Origin is when and by whom. What no provider told is zero.
type Origin struct {
	Time   time.Time // of the block, UTC
	Sender common.Address
}

// Origins tells when the blocks were made and who sent the transactions. It is for show: there is an Origin for every
// place, but providers are believed, and what none of them tells is left out without an error.
func (c *Client) Origins(ctx context.Context, places []Place) map[Place]Origin {
	times := map[common.Hash]time.Time{}
	senders := map[Place]common.Address{}
	for _, p := range c.providers {
		p.origins(ctx, places, times, senders)
	}
	out := make(map[Place]Origin, len(places))
	for _, at := range places {
		out[at] = Origin{times[at.Block], senders[at]}
	}
	return out
}

// origins asks for what is still missing.
func (p *provider) origins(ctx context.Context, places []Place, times map[common.Hash]time.Time, senders map[Place]common.Address) {
	blocks := map[common.Hash]*call{}
	txs := map[Place]*call{}
	var calls []*call
	for _, at := range places {
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
