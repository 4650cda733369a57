package matrix_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

const chainID = 1337

// node is a chain that many cases share, each with contracts of its own.
type node struct {
	*testchain.Chain
	abi    abi.ABI // of Backdoor, which has everything
	proxy  testchain.Artifact
	impl   map[string]common.Address // by the implementation's name
	runs   map[string]common.Hash    // the hash of its code
	shell  common.Hash               // the hash of a proxy's code
	nonces map[string]uint64         // by account; none: to be asked for
	tip    float64                   // wei per gas
}

// tx is a transaction of one of the two accounts; to nobody it creates.
type tx struct {
	from string
	to   *common.Address
	data []byte
}

func startNode(ctx context.Context) (*node, error) {
	chain, err := testchain.Start(testchain.Options{})
	if err != nil {
		return nil, err
	}
	n := &node{Chain: chain, impl: map[string]common.Address{}, runs: map[string]common.Hash{}, nonces: map[string]uint64{}, tip: 1e9}
	return n, errors.Join(n.furnish(ctx), err)
}

// furnish deploys the implementations that all cases use.
func (n *node) furnish(ctx context.Context) error {
	backdoor, err := testchain.Contract(testchain.Backdoor)
	if err != nil {
		return err
	}
	n.abi = backdoor.ABI
	if n.proxy, err = testchain.Contract("ERC1967Proxy"); err != nil {
		return err
	}
	kms, err := n.Deploy(ctx, testchain.DeployOptions{})
	if err != nil {
		return err
	}
	for _, name := range []string{testchain.Plain, testchain.Backdoor, testchain.Moved} {
		if n.impl[name], err = kms.Upgrade(ctx, name); err != nil {
			return err
		}
		code, err := n.Client().CodeAt(ctx, n.impl[name], nil)
		if err != nil {
			return err
		}
		n.runs[name] = crypto.Keccak256Hash(code)
	}
	shell, err := n.Client().CodeAt(ctx, kms.Address(), nil)
	n.shell = crypto.Keccak256Hash(shell)
	return err
}

// call makes the transaction of one call of a contract.
func (n *node) call(from string, to common.Address, method string, args ...any) (tx, error) {
	data, err := n.abi.Pack(method, args...)
	return tx{from, &to, data}, err
}

// birth makes the transaction that creates a contract, and tells where.
func (n *node) birth(ctx context.Context, ahead uint64) (tx, common.Address, error) {
	initialize, err := n.abi.Pack("initialize", testchain.Address("owner"))
	if err != nil {
		return tx{}, common.Address{}, err
	}
	args, err := n.proxy.ABI.Pack("", n.impl[testchain.Plain], initialize)
	if err != nil {
		return tx{}, common.Address{}, err
	}
	nonce, err := n.nonce(ctx, "owner")
	return tx{from: "owner", data: append(append([]byte{}, n.proxy.Bytecode...), args...)}, crypto.CreateAddress(testchain.Address("owner"), nonce+ahead), err
}

func (n *node) nonce(ctx context.Context, account string) (uint64, error) {
	if nonce, known := n.nonces[account]; known {
		return nonce, nil
	}
	nonce, err := n.Client().NonceAt(ctx, testchain.Address(account), nil)
	n.nonces[account] = nonce
	return nonce, err
}

// mine puts transactions into blocks, and returns these with the number of transactions that are in them. It is one block,
// unless the node's pool is late, or a transaction follows one of the other account: their order in a block is anyone's.
func (n *node) mine(ctx context.Context, txs []tx) (heads []*types.Header, counts []int, err error) {
	for first := true; first || len(txs) > 0; first = false {
		same := 0
		for same < len(txs) && txs[same].from == txs[0].from {
			same++
		}
		h, c, err := n.seal(ctx, txs[:same])
		if err != nil {
			return nil, nil, err
		}
		heads, counts, txs = append(heads, h...), append(counts, c...), txs[same:]
	}
	return heads, counts, nil
}

// seal makes a block of one account's transactions, or more where the pool is late.
func (n *node) seal(ctx context.Context, txs []tx) (heads []*types.Header, counts []int, err error) {
	tip, _ := big.NewFloat(n.tip).Int(nil)
	for _, t := range txs {
		nonce, err := n.nonce(ctx, t.from)
		if err != nil {
			return nil, nil, err
		}
		signed, err := types.SignNewTx(testchain.Key(t.from), signer, &types.DynamicFeeTx{
			ChainID: big.NewInt(chainID), Nonce: nonce, To: t.to, Data: t.data,
			Gas: 1_000_000, GasTipCap: tip, GasFeeCap: new(big.Int).Add(tip, tip),
		})
		if err != nil {
			return nil, nil, err
		}
		if err := patiently(func() error { return n.Client().SendTransaction(ctx, signed) }); err != nil {
			return nil, nil, fmt.Errorf("sending transaction %d of %s: %w", nonce, t.from, err)
		}
		n.nonces[t.from]++
	}
	for left := len(txs); left > 0 || len(heads) == 0; {
		if len(heads) > 100 {
			return nil, nil, fmt.Errorf("%d transactions are not mined after 100 blocks", left)
		}
		block, err := n.Client().BlockByHash(ctx, n.Commit())
		if err != nil {
			return nil, nil, err
		}
		heads, counts = append(heads, block.Header()), append(counts, len(block.Transactions()))
		for _, t := range block.Transactions() {
			r, err := n.Client().TransactionReceipt(ctx, t.Hash())
			if err != nil || r.Status != types.ReceiptStatusSuccessful {
				return nil, nil, fmt.Errorf("transaction %s of block %d was refused (%w): %x", t.Hash(), block.Number(), err, t.Data()[:min(40, len(t.Data()))])
			}
		}
		if left -= len(block.Transactions()); left < 0 {
			return nil, nil, fmt.Errorf("block %d has %d transactions more than were sent", block.Number(), -left)
		}
	}
	return heads, counts, nil
}

var signer = types.LatestSignerForChainID(big.NewInt(chainID))

// undo takes back all blocks after one, and makes a longer branch. What was undone may come back from the node's pool at any
// time: so each of those transactions is replaced by one that does nothing and pays more.
func (n *node) undo(ctx context.Context, root common.Hash, blocks int) ([]*types.Header, error) {
	was := map[string]uint64{}
	for _, account := range []string{"owner", "stranger"} {
		nonce, err := n.nonce(ctx, account)
		if err != nil {
			return nil, err
		}
		was[account] = nonce
	}
	if err := patiently(func() error { n.Rollback(); return n.Fork(root) }); err != nil {
		return nil, err
	}
	n.Rollback()
	clear(n.nonces)
	n.tip *= 1.12
	var nothing []tx
	for account, end := range was {
		nonce, err := n.Client().NonceAt(ctx, testchain.Address(account), nil)
		if err != nil {
			return nil, err
		}
		n.nonces[account] = nonce
		self := testchain.Address(account)
		for range end - nonce {
			nothing = append(nothing, tx{from: account, to: &self})
		}
	}
	heads, _, err := n.mine(ctx, nothing)
	for err == nil && len(heads) <= blocks {
		var more []*types.Header
		more, _, err = n.mine(ctx, nil)
		heads = append(heads, more...)
	}
	return heads, err
}

// patiently does something that the node refuses while its pool follows the chain a little behind.
func patiently(do func() error) error {
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

// head is the newest block.
func (n *node) head(ctx context.Context) (*types.Header, error) {
	return n.Client().HeaderByNumber(ctx, nil)
}
