package logs

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// DeploymentBlock returns the first block at which the contract has code, by binary search up to block to, where it must have
// code. The error is a *ReadError; it wraps ErrNoState if the providers do not keep state that old. The result is unverified,
// and wrong if the contract was destroyed and deployed again.
func (r *Reader) DeploymentBlock(ctx context.Context, contract common.Address, to uint64) (uint64, error) {
	var failed []transport.ProviderError
	for _, p := range r.providers {
		first, err := r.deploymentBlock(ctx, p, contract, to)
		if err == nil {
			return first, nil
		}
		failed = append(failed, transport.ProviderError{Provider: p.Name, Err: fmt.Errorf("finding the first block of %s: %w", contract, err)})
		if ctx.Err() != nil {
			break
		}
	}
	return 0, &transport.ReadError{Failures: failed}
}

func (r *Reader) deploymentBlock(ctx context.Context, p *transport.Client, contract common.Address, high uint64) (uint64, error) {
	id := block.ChainID()
	if err := p.Do(ctx, id); err != nil {
		return 0, err
	}
	if err := block.CheckChainID(id, r.chainID); err != nil {
		return 0, err
	}
	has, err := codeAt(ctx, p, contract, high)
	if err != nil {
		return 0, err
	}
	if !has {
		return 0, fmt.Errorf("it has no code at block %d", high)
	}
	first := sort.Search(int(high), func(n int) bool {
		if err == nil {
			has, err = codeAt(ctx, p, contract, uint64(n))
		}
		return has
	})
	return uint64(first), err
}

// codeAt reports whether the contract has code at a block.
func codeAt(ctx context.Context, p *transport.Client, contract common.Address, number uint64) (bool, error) {
	c := &transport.Call{Method: "eth_getCode", Args: []any{contract, hexutil.EncodeUint64(number)}}
	err := p.Do(ctx, c)
	var code []byte
	if err == nil {
		code, err = c.Bytes()
	}
	switch {
	case transport.IsPruned(err) || transport.IsUnknownBlock(err) || errors.Is(err, transport.ErrNull):
		return false, fmt.Errorf("%w at block %d: set from_block of the contract to the block of its deployment, or use a provider that keeps all state: %w",
			block.ErrNoState, number, err)
	case err != nil:
		return false, fmt.Errorf("reading the code at block %d: %w", number, err)
	}
	return len(code) > 0, nil
}

// Ref identifies the transaction of a log.
type Ref struct {
	Block, Tx common.Hash
	Timed     bool // the block's time is known and need not be asked for
	NoSender  bool // the sender is not asked for
}

// TxInfo is the time, sender and recipient of a transaction. A field is zero if no provider gave it.
type TxInfo struct {
	BlockTime time.Time // UTC
	Sender    common.Address
	To        common.Address // zero if the transaction created a contract
}

// TxInfo returns a TxInfo for every ref. It is unverified, for display only: providers are trusted, and missing fields are left
// zero without an error.
func (r *Reader) TxInfo(ctx context.Context, refs []Ref) map[Ref]TxInfo {
	times, txs := map[common.Hash]time.Time{}, map[Ref]TxInfo{}
	for _, p := range r.providers {
		blocks, asked := map[common.Hash]*transport.Call{}, map[Ref]*transport.Call{}
		var calls []*transport.Call
		for _, at := range refs {
			if _, known := times[at.Block]; !known && !at.Timed && blocks[at.Block] == nil {
				blocks[at.Block] = block.AtHash(at.Block).Ask()
				calls = append(calls, blocks[at.Block])
			}
			if _, known := txs[at]; !known && !at.NoSender && asked[at] == nil {
				asked[at] = &transport.Call{Method: "eth_getTransactionByHash", Args: []any{at.Tx}}
				calls = append(calls, asked[at])
			}
		}
		_ = p.Do(ctx, calls...) // other batches may have succeeded
		for hash, c := range blocks {
			if b, err := block.Decode(c); err == nil && b.Hash == hash {
				times[hash] = b.Time
			}
		}
		for at, c := range asked {
			var tx struct {
				Hash, BlockHash common.Hash
				From, To        *common.Address
			}
			if c.Decode(&tx) == nil && tx.Hash == at.Tx && tx.BlockHash == at.Block && tx.From != nil {
				info := TxInfo{Sender: *tx.From}
				if tx.To != nil {
					info.To = *tx.To
				}
				txs[at] = info
			}
		}
	}
	out := make(map[Ref]TxInfo, len(refs))
	for _, at := range refs {
		info := txs[at]
		info.BlockTime = times[at.Block]
		out[at] = info
	}
	return out
}
