package testchain

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"
)

// writeGas is an upper bound for one write to a list.
const writeGas = 200_000

// Seed allows many devices and images at once. It sends all transactions before a block is sealed.
func (k *KMS) Seed(ctx context.Context, devices, images []common.Hash) error {
	bound, err := k.bound("addKmsDevice")
	if err != nil {
		return err
	}
	opts, err := k.opts(ctx)
	if err != nil {
		return err
	}
	nonce, err := k.backend.PendingNonceAt(ctx, opts.From)
	if err != nil {
		return fmt.Errorf("asking for the nonce of %s: %w", opts.From, err)
	}
	head, err := k.backend.HeaderByNumber(ctx, nil)
	if err != nil {
		return fmt.Errorf("asking for the head: %w", err)
	}
	opts.GasLimit = writeGas
	opts.GasTipCap = big.NewInt(1e9)
	opts.GasFeeCap = new(big.Int).Add(opts.GasTipCap, new(big.Int).Mul(head.BaseFee, big.NewInt(10)))

	k, release := k.hold(ctx)
	defer release()
	var sent []common.Hash
	for _, list := range []struct {
		method string
		ids    []common.Hash
	}{{"addKmsDevice", devices}, {"addOsImageHash", images}} {
		for _, id := range list.ids {
			opts.Nonce = new(big.Int).SetUint64(nonce)
			tx, err := bound.Transact(opts, list.method, id)
			if err != nil {
				return fmt.Errorf("sending %s of %s: %w", list.method, id, err)
			}
			sent = append(sent, tx.Hash())
			nonce++
		}
	}
	// The pool takes some time to order the transactions.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n, err := k.backend.PendingNonceAt(ctx, opts.From)
		if err != nil {
			return fmt.Errorf("waiting for the pool: %w", err)
		}
		if n >= nonce {
			break
		}
	}
	k.mine()
	for _, tx := range sent {
		if _, err := k.receipt(ctx, tx); err != nil {
			return fmt.Errorf("mining the seed: %w", err)
		}
	}
	return nil
}

// hold keeps anvil from sealing a block after each transaction. While sealing one, anvil may reject the nonce of the next as too
// high and never mine it. The blocks of the returned KMS are sealed only by mine.
func (k *KMS) hold(ctx context.Context) (held *KMS, release func()) {
	c, real := k.backend.(*ethclient.Client)
	if !real || c.Client().CallContext(ctx, nil, "evm_setAutomine", false) != nil {
		return k, func() {}
	}
	other := *k
	other.mine = func() { _ = c.Client().CallContext(ctx, nil, "evm_mine") } // receipt retries
	return &other, func() { _ = c.Client().CallContext(context.WithoutCancel(ctx), nil, "evm_setAutomine", true) }
}
