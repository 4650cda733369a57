package logs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// Ref is where a log stands.
type Ref struct{ Block, Tx common.Hash }

// TxInfo is when and by whom. What no provider told is zero.
type TxInfo struct {
	BlockTime time.Time // UTC
	Sender    common.Address
}

// TxInfo returns when the blocks were made and who sent the transactions. Unverified; display only: there is one for every
// ref, but providers are believed, and what none of them tells is left out without an error.
func (r *Reader) TxInfo(ctx context.Context, refs []Ref) map[Ref]TxInfo {
	times := map[common.Hash]time.Time{}
	senders := map[Ref]common.Address{}
	for _, p := range r.providers {
		fetchTxInfo(ctx, p, refs, times, senders)
	}
	out := make(map[Ref]TxInfo, len(refs))
	for _, at := range refs {
		out[at] = TxInfo{times[at.Block], senders[at]}
	}
	return out
}

// fetchTxInfo asks for what is still missing.
func fetchTxInfo(ctx context.Context, p *transport.Client, refs []Ref, times map[common.Hash]time.Time, senders map[Ref]common.Address) {
	blocks, txs := map[common.Hash]*transport.Call{}, map[Ref]*transport.Call{}
	var calls []*transport.Call
	for _, at := range refs {
		if _, known := times[at.Block]; !known && blocks[at.Block] == nil {
			blocks[at.Block] = block.AtHash(at.Block).Ask()
			calls = append(calls, blocks[at.Block])
		}
		if _, known := senders[at]; !known && txs[at] == nil {
			txs[at] = &transport.Call{Method: "eth_getTransactionByHash", Args: []any{at.Tx}}
			calls = append(calls, txs[at])
		}
	}
	// An error is of one batch: what the others brought is good.
	_ = p.Do(ctx, calls...)
	for hash, c := range blocks {
		if b, err := block.Decode(c); err == nil && b.Hash == hash {
			times[hash] = b.Time
		}
	}
	for at, c := range txs {
		var tx struct {
			Hash, BlockHash *common.Hash
			From            *common.Address
		}
		if c.Err != nil || json.Unmarshal(c.Result, &tx) != nil || tx.Hash == nil || tx.BlockHash == nil || tx.From == nil {
			continue
		}
		if *tx.Hash == at.Tx && *tx.BlockHash == at.Block {
			senders[at] = *tx.From
		}
	}
}
