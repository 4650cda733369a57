package simtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const chainID = 1337

// node is a chain that many sequences share, each with contracts of its own.
type node struct {
	*testchain.Chain
	raw    *rpc.Client
	abi    abi.ABI                   // of Backdoor, which has all methods
	impl   map[string]common.Address // implementations and other shared contracts, by name
	nonces map[string]uint64         // by account; missing if not asked for yet
	tip    float64                   // wei per gas
	dumped map[[2]common.Hash]account
}

// tx is a transaction of one of the two accounts. It creates a contract if to is nil.
type tx struct {
	from string
	to   *common.Address
	data []byte
}

func startNode(ctx context.Context) (*node, error) {
	chain, err := testchain.Start(testchain.Options{GasCap: 5_000_000}) // so that endless code ends soon
	if err != nil {
		return nil, err
	}
	n := &node{Chain: chain, impl: map[string]common.Address{}, nonces: map[string]uint64{}, tip: 1e9, dumped: map[[2]common.Hash]account{}}
	return n, n.deployImplementations(ctx)
}

func (n *node) deployImplementations(ctx context.Context) (err error) {
	if n.raw, err = rpc.DialContext(ctx, n.URL()); err != nil {
		return err
	}
	backdoor, err := testchain.Contract(testchain.Backdoor)
	if err != nil {
		return err
	}
	n.abi = backdoor.ABI
	kms, err := n.Deploy(ctx, testchain.DeployOptions{})
	for _, name := range []string{testchain.Plain, testchain.Backdoor, testchain.Moved} {
		if err == nil {
			n.impl[name], err = kms.Upgrade(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	return n.deployHelpers(ctx, kms)
}

func (n *node) nonce(ctx context.Context, account string) (uint64, error) {
	if nonce, known := n.nonces[account]; known {
		return nonce, nil
	}
	nonce, err := n.Client().NonceAt(ctx, testchain.Address(account), nil)
	n.nonces[account] = nonce
	return nonce, err
}

var signer = types.LatestSignerForChainID(big.NewInt(chainID))

// mine seals a block of transactions, or several if the node's pool is late or if a transaction follows one of the other account.
// Reverted transactions are mined too.
func (n *node) mine(ctx context.Context, txs ...tx) error {
	for first := true; first || len(txs) > 0; first = false {
		same := 0
		for same < len(txs) && txs[same].from == txs[0].from {
			same++
		}
		if err := n.seal(ctx, txs[:same]); err != nil {
			return err
		}
		txs = txs[same:]
	}
	return nil
}

// seal seals a block of one account's transactions.
func (n *node) seal(ctx context.Context, txs []tx) error {
	tip, _ := big.NewFloat(n.tip).Int(nil)
	for _, t := range txs {
		nonce, err := n.nonce(ctx, t.from)
		if err != nil {
			return err
		}
		signed, err := types.SignNewTx(testchain.Key(t.from), signer, &types.DynamicFeeTx{
			ChainID: big.NewInt(chainID), Nonce: nonce, To: t.to, Data: t.data,
			Gas: 1_000_000, GasTipCap: tip, GasFeeCap: new(big.Int).Add(tip, tip),
		})
		if err != nil {
			return err
		}
		account := testchain.Address(t.from)
		// The pool follows the chain a little behind.
		if err := retry(func() error { return n.Client().SendTransaction(ctx, signed) }); err != nil {
			return fmt.Errorf("sending transaction %d of %s: %w", nonce, t.from, err)
		}
		n.nonces[t.from]++
		if err := retry(func() error {
			if pending, err := n.Client().PendingNonceAt(ctx, account); err != nil || pending <= nonce {
				return errors.Join(errors.New("the pool does not take the transaction"), err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for left, commits := len(txs), 0; ; commits++ {
		if commits > 500 {
			return errStuck
		}
		block, err := n.Client().BlockByHash(ctx, n.Commit())
		if err != nil {
			return err
		}
		if left -= len(block.Transactions()); left <= 0 {
			return nil
		}
	}
}

// undo reorganises the newest blocks away and seals a longer branch. The undone transactions may come back from the node's pool at
// any time, so each is replaced by an empty one with a higher fee.
func (n *node) undo(ctx context.Context, blocks uint64) error {
	was := map[string]uint64{}
	for _, account := range []string{"owner", "stranger"} {
		nonce, err := n.nonce(ctx, account)
		if err != nil {
			return err
		}
		was[account] = nonce
	}
	head, err := n.head(ctx)
	if err != nil {
		return err
	}
	root, err := n.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(head-blocks))
	if err != nil {
		return err
	}
	if err := retry(func() error { n.Rollback(); return n.Fork(root.Hash()) }); err != nil {
		return err
	}
	n.Rollback()
	clear(n.nonces)
	n.tip *= 1.12
	for account, end := range was {
		nonce, err := n.Client().NonceAt(ctx, testchain.Address(account), root.Number)
		if err != nil {
			return err
		}
		n.nonces[account] = nonce
		self := testchain.Address(account)
		var nothing []tx
		for range end - nonce {
			nothing = append(nothing, tx{from: account, to: &self})
		}
		if err := n.mine(ctx, nothing...); err != nil {
			return err
		}
	}
	for commits := uint64(0); ; commits++ {
		if now, err := n.head(ctx); err != nil || now > head {
			return err
		}
		if commits > 10*blocks+100 {
			return errStuck
		}
		n.Commit()
	}
}

// errStuck reports a simulated chain that no longer seals blocks, or only empty ones. That happens about once in some thousand
// reorganisations.
var errStuck = errors.New("the chain stands still")

// retry retries something that the node refuses for a moment.
func retry(do func() error) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for looks := 1; ; looks++ {
		err := do()
		if err == nil || looks == 5000 {
			return err
		}
		<-tick.C
	}
}

func (n *node) head(ctx context.Context) (uint64, error) { return n.Client().BlockNumber(ctx) }

// finalize seals blocks until the newest is finalized.
func (n *node) finalize(ctx context.Context) error {
	for {
		if head, err := n.head(ctx); err != nil || head%32 == 0 {
			return err
		}
		n.Commit()
	}
}

// account is the state of an address at a block.
type account struct {
	CodeHash common.Hash            `json:"codeHash"`
	Storage  map[common.Hash]string `json:"storage"`
}

// dump reads an account from the node's state at a block, which may have been reorganised away.
func (n *node) dump(ctx context.Context, block common.Hash, at common.Address) (account, error) {
	key := [2]common.Hash{block, crypto.Keccak256Hash(at[:])}
	if a, known := n.dumped[key]; known {
		return a, nil
	}
	var all struct{ Accounts map[common.Address]account }
	err := n.raw.CallContext(ctx, &all, "debug_accountRange", map[string]any{"blockHash": block}, hexutil.Bytes(key[1][:]), 1, true, false, false)
	if err == nil {
		n.dumped[key] = all.Accounts[at]
	}
	return all.Accounts[at], err
}

// logs returns the data of a contract's events up to a block of the canonical chain.
func (n *node) logs(ctx context.Context, at common.Address, to uint64) (string, error) {
	var all []struct{ Data string }
	err := n.raw.CallContext(ctx, &all, "eth_getLogs", map[string]any{"address": at, "fromBlock": "0x0", "toBlock": hexutil.EncodeUint64(to)})
	var out strings.Builder
	for _, l := range all {
		out.WriteString(l.Data)
	}
	return out.String(), err
}
