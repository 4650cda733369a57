package testchain

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
)

// Fund gives an account 100 ether on a development node (anvil, geth --dev) from the node's own account, and waits for it. The
// accounts of a Chain are funded already.
func Fund(ctx context.Context, c *ethclient.Client, to common.Address) error {
	var held []common.Address
	if err := c.Client().CallContext(ctx, &held, "eth_accounts"); err != nil {
		return fmt.Errorf("asking for the node's accounts: %w", err)
	}
	if len(held) == 0 {
		return errors.New("asking for the node's accounts: it holds none")
	}
	amount := new(big.Int).Mul(big.NewInt(100), big.NewInt(1e18))
	tx := map[string]any{"from": held[0], "to": to, "value": (*hexutil.Big)(amount)}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for looks := range maxLooks {
		// A node that has just started may not mine a transaction until another one comes.
		if looks%200 == 0 {
			if err := c.Client().CallContext(ctx, nil, "eth_sendTransaction", tx); err != nil {
				return fmt.Errorf("funding %s: %w", to, err)
			}
		}
		got, err := c.BalanceAt(ctx, to, nil)
		if err != nil {
			return fmt.Errorf("asking for the balance of %s: %w", to, err)
		}
		if got.Cmp(amount) >= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the funds of %s: %w", to, ctx.Err())
		case <-tick.C:
		}
	}
	return fmt.Errorf("waiting for the funds of %s: the node mines nothing", to)
}

// nudge makes a development node mine. Errors are ignored: the caller waits on.
func nudge(ctx context.Context, c *ethclient.Client) {
	var held []common.Address
	if c.Client().CallContext(ctx, &held, "eth_accounts") == nil && len(held) > 0 {
		_ = c.Client().CallContext(ctx, nil, "eth_sendTransaction", map[string]any{"from": held[0], "to": held[0]})
	}
}

// maxLooks bounds Fund to about a minute.
const maxLooks = 6000
