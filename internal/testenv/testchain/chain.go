// Package testchain is a real EVM with a KMS contract, for tests and for the demo.
//
// Start runs a go-ethereum node inside the process and serves its JSON-RPC over HTTP. Deploy deploys a contract of contracts/ on
// that chain, or on any other that a client reaches (anvil, geth --dev). The methods of KMS then change the lists, with or without
// events. Blocks of a Chain are sealed only by Commit, which the methods of its KMS call after each transaction.
package testchain

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/ethclient/simulated"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/params"
)

const (
	gasLimit          = 1_000_000_000 // of a block, enough for thousands of writes
	batchLimit        = 10_000
	batchResponseSize = 100 << 20
)

// Options configure a Chain. The zero value is valid.
type Options struct {
	ChainID    uint64             // zero means 1337
	BatchLimit int                // calls that the node accepts in one batch; zero means 10,000
	GasCap     uint64             // of a call; zero means go-ethereum's default
	Alloc      types.GenesisAlloc // further accounts besides "owner" and "stranger"
	Preload    []Preload          // contracts in the genesis block
}

// Chain is a node that runs in the process until Close.
//
// Finalized is the last block whose number is a multiple of 32, safe is the head, and state is kept for 128 blocks.
// Fork puts the transactions that it undoes back into the pool; Reorg does not.
type Chain struct {
	*simulated.Backend
	url string
}

// Start starts a chain of one block that listens on a free port of 127.0.0.1.
func Start(o Options) (*Chain, error) {
	alloc := types.GenesisAlloc{}
	for _, name := range []string{"owner", "stranger"} {
		alloc[Address(name)] = types.Account{Balance: new(big.Int).Lsh(big.NewInt(1), 100)}
	}
	maps.Copy(alloc, o.Alloc)
	for _, p := range o.Preload {
		if err := p.into(alloc); err != nil {
			return nil, fmt.Errorf("preloading %s: %w", p.Address, err)
		}
	}
	var seen endpoint
	b := simulated.NewBackend(alloc, simulated.WithBlockGasLimit(gasLimit), func(n *node.Config, e *ethconfig.Config) {
		n.Logger = log.NewLogger(&seen)
		n.HTTPHost, n.HTTPPort = "127.0.0.1", 0
		n.HTTPModules = []string{"eth", "net", "web3", "debug"}
		n.BatchRequestLimit, n.BatchResponseMaxSize = batchLimit, batchResponseSize
		if o.BatchLimit > 0 {
			n.BatchRequestLimit = o.BatchLimit
		}
		if o.ChainID > 0 {
			rules := *params.AllDevChainProtocolChanges
			rules.ChainID = new(big.Int).SetUint64(o.ChainID)
			e.Genesis.Config, e.NetworkId = &rules, o.ChainID
		}
		if o.GasCap > 0 {
			e.RPCGasCap = o.GasCap
		}
		e.RPCEVMTimeout = time.Minute // of a call; a busy machine is slow
		e.Preimages = true            // so that debug_accountRange returns slots
		// The miner stops filling a block after this time, and a busy machine is slow.
		e.Miner.Recommit = time.Minute
		// Seed sends thousands of transactions from one account.
		e.TxPool.AccountSlots, e.TxPool.AccountQueue = batchLimit, batchLimit
		e.TxPool.GlobalSlots, e.TxPool.GlobalQueue = batchLimit, batchLimit
	})
	addr := seen.addr.Load()
	if addr == nil {
		return nil, errors.Join(errors.New("starting the node: it named no HTTP endpoint"), b.Close())
	}
	return &Chain{Backend: b, url: "http://" + *addr}, nil
}

// URL returns the URL of the chain's JSON-RPC.
func (c *Chain) URL() string { return c.url }

// Reorg undoes the newest blocks with their transactions, seals a longer branch of empty blocks, and returns its head.
func (c *Chain) Reorg(ctx context.Context, blocks uint64) (common.Hash, error) {
	head, err := c.Client().BlockNumber(ctx)
	if err != nil {
		return common.Hash{}, fmt.Errorf("asking for the head: %w", err)
	}
	if blocks > head {
		return common.Hash{}, fmt.Errorf("undoing %d blocks of a chain of %d", blocks, head)
	}
	base, err := c.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(head-blocks))
	if err != nil {
		return common.Hash{}, fmt.Errorf("asking for block %d: %w", head-blocks, err)
	}
	if err := c.Fork(base.Hash()); err != nil {
		return common.Hash{}, fmt.Errorf("forking at block %d: %w", head-blocks, err)
	}
	c.Rollback()
	for range blocks {
		c.Commit()
	}
	return c.Commit(), nil
}

// Deploy deploys a KMS on the chain.
func (c *Chain) Deploy(ctx context.Context, o DeployOptions) (*KMS, error) {
	o.Mine = c.mine
	return Deploy(ctx, c.Client(), o)
}

// KMS returns the preloaded or deployed contract at a, used by its owner.
func (c *Chain) KMS(a common.Address) *KMS {
	return &KMS{address: a, backend: c.Client(), key: Key("owner"), mine: c.mine}
}

func (c *Chain) mine() { c.Commit() }

// Key derives a private key from a name. It is not secret: use it only in tests.
func Key(name string) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("kms-auditor testchain " + name)))
	if err != nil {
		panic(err) // a hash outside the curve's order: one in 2^128
	}
	return k
}

// Address returns the account of Key(name).
func Address(name string) common.Address { return account(Key(name)) }

func account(k *ecdsa.PrivateKey) common.Address { return crypto.PubkeyToAddress(k.PublicKey) }

// endpoint is a log handler that keeps the address that the node listens on. The simulated backend hides the node, so the log
// line about the listener is the only source of the port.
type endpoint struct{ addr atomic.Pointer[string] }

func (e *endpoint) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if addr, ok := a.Value.Any().(net.Addr); ok && a.Key == "endpoint" {
			s := addr.String()
			e.addr.Store(&s)
		}
		return true
	})
	return nil
}

func (e *endpoint) Enabled(context.Context, slog.Level) bool { return true }
func (e *endpoint) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e *endpoint) WithGroup(string) slog.Handler            { return e }
