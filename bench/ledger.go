package main

import (
	"crypto/ecdsa"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/consensus/misc/eip1559"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm/runtime"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/triedb"

	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

const (
	before    = 5000 // blocks before the contracts are deployed
	perBlock  = 400  // changes of lists
	toggles   = 16   // blocks that turn the first image of the first contract off and on again, after all else
	after     = 64   // empty blocks at the end: the newest block is not finalized, and not full
	blockTime = 10   // seconds, as core.GenerateChain has it
	blockGas  = 60e6
)

// multicall3 is where Multicall3 is on most chains.
var multicall3 = common.BytesToAddress(hexutil.MustDecode("0xcA11bde05977b3631167028862bE2a173976CA11"))

// toggled is the entry of the first contract that the last blocks change.
const toggled = 1

// ledger is a chain on which every list was filled by transactions, one a change. No node makes so many blocks in
// the time of a benchmark: they are executed here and written into a database, which a real geth then serves.
type ledger struct {
	size      size
	rules     params.ChainConfig
	key       *ecdsa.PrivateKey
	owner     common.Address
	plain     testchain.Artifact
	proxy     testchain.Artifact
	contracts []common.Address
	born      uint64        // the block of the contracts' deployment
	settled   []common.Hash // the block after which the toggles come, that of each toggle, and the newest
}

// newLedger is a ledger that is not written yet.
func newLedger(s size) (l *ledger, err error) {
	l = &ledger{size: s, rules: *params.AllDevChainProtocolChanges, key: testchain.Key("owner"), owner: testchain.Address("owner"), born: before + 1}
	// Later rules have contracts of the protocol's own, which every block would write to.
	l.rules.PragueTime, l.rules.OsakaTime, l.rules.BogotaTime = nil, nil, nil
	if l.plain, err = testchain.Contract(testchain.Plain); err != nil {
		return nil, err
	}
	if l.proxy, err = testchain.Contract("ERC1967Proxy"); err != nil {
		return nil, err
	}
	for c := range s.contracts {
		l.contracts = append(l.contracts, crypto.CreateAddress(l.owner, uint64(c)+1))
	}
	return l, nil
}

// write makes the chain in a folder that geth takes as its --datadir. multicall is the creation code of Multicall3,
// which the chain then has where other chains have it; empty: it has none.
func (l *ledger) write(dir string, multicall []byte) error {
	kv, err := pebble.New(filepath.Join(dir, "geth", "chaindata"), 64, 64, "", false)
	if err != nil {
		return err
	}
	db := rawdb.NewDatabase(kv)
	defer db.Close()
	changes := l.changes()
	blocks := before + 1 + len(changes) + 1 + after
	tries := triedb.NewDatabase(db, triedb.HashDefaults)
	genesis := &core.Genesis{
		Config: &l.rules, GasLimit: blockGas, Difficulty: new(big.Int), BaseFee: big.NewInt(1e9),
		Timestamp: uint64(time.Now().Unix()) - uint64(blocks*blockTime),
		Alloc:     types.GenesisAlloc{l.owner: {Balance: new(big.Int).Lsh(big.NewInt(1), 100)}},
	}
	if len(multicall) > 0 {
		code, _, _, err := runtime.Create(multicall, nil)
		if err != nil {
			return fmt.Errorf("constructing Multicall3: %w", err)
		}
		genesis.Alloc[multicall3] = types.Account{Code: code}
	}
	head, err := genesis.Commit(db, tries, nil)
	if err != nil {
		return err
	}
	if err := tries.Close(); err != nil {
		return err
	}
	if head, err = l.idle(db, head, before); err != nil {
		return err
	}
	if head, err = l.busy(db, head, l.deploy()); err != nil {
		return err
	}
	for i, calls := range changes {
		if i == len(changes)-toggles {
			if head, err = l.idle(db, head, 1); err != nil {
				return err
			}
			l.settled = []common.Hash{head.Hash()}
		}
		if head, err = l.busy(db, head, calls); err != nil {
			return err
		}
		if l.settled != nil {
			l.settled = append(l.settled, head.Hash())
		}
	}
	rawdb.WriteFinalizedBlockHash(db, l.settled[0])
	head, err = l.idle(db, head, after)
	l.settled = append(l.settled, head.Hash())
	return err
}

// call is what a transaction does; without a receiver it creates a contract.
type call struct {
	to    *common.Address
	gas   uint64
	input []byte
}

func (l *ledger) deploy() []call {
	calls := []call{{nil, 10e6, l.plain.Bytecode}}
	initialize, err := l.plain.ABI.Pack("initialize", l.owner)
	if err == nil {
		initialize, err = l.proxy.ABI.Pack("", crypto.CreateAddress(l.owner, 0), initialize)
	}
	if err != nil {
		panic(err) // the contracts are part of the program
	}
	for range l.contracts {
		calls = append(calls, call{nil, 1e6, slices.Concat(l.proxy.Bytecode, initialize)})
	}
	return calls
}

// changes are the transactions of every block: what fills the lists, and at the end the toggles.
func (l *ledger) changes() (blocks [][]call) {
	var all []call
	for c, at := range l.contracts {
		for _, e := range l.size.entriesOf(c) {
			all = append(all, change(l.plain.ABI, at, e, true))
			if !e.allowed {
				all = append(all, change(l.plain.ABI, at, e, false))
			}
		}
	}
	blocks = slices.Collect(slices.Chunk(all, perBlock))
	for i := range toggles {
		blocks = append(blocks, []call{change(l.plain.ABI, l.contracts[0], l.size.entriesOf(0)[toggled], i%2 == 1)})
	}
	return blocks
}

func change(contract abi.ABI, at common.Address, e entry, allow bool) call {
	method := map[bool]string{true: "addOsImageHash", false: "removeOsImageHash"}[allow]
	if e.device {
		method = map[bool]string{true: "addKmsDevice", false: "removeKmsDevice"}[allow]
	}
	input, err := contract.Pack(method, e.id)
	if err != nil {
		panic(err) // the contract is part of the program
	}
	return call{&at, 100_000, input}
}

// busy adds a block of transactions.
func (l *ledger) busy(db ethdb.Database, head *types.Block, calls []call) (*types.Block, error) {
	var failed error
	blocks, receipts := core.GenerateChain(&l.rules, head, beacon.New(ethash.NewFaker()), db, 1, func(_ int, b *core.BlockGen) {
		for _, c := range calls {
			tx, err := types.SignNewTx(l.key, b.Signer(), &types.LegacyTx{Nonce: b.TxNonce(l.owner), To: c.to, Gas: c.gas, GasPrice: b.BaseFee(), Data: c.input})
			if err != nil {
				failed = err
				return
			}
			b.AddTx(tx)
		}
	})
	if failed != nil {
		return nil, failed
	}
	for i, r := range receipts[0] {
		if r.Status != types.ReceiptStatusSuccessful {
			return nil, fmt.Errorf("transaction %d of block %s was reverted", i, blocks[0].Number())
		}
	}
	return blocks[0], keep(db, blocks, receipts)
}

// idle adds blocks without transactions. They leave the state as it is.
func (l *ledger) idle(db ethdb.Database, head *types.Block, n int) (*types.Block, error) {
	blocks := make([]*types.Block, n)
	for i := range blocks {
		h := head.Header()
		h.ParentHash, h.Number, h.Time, h.BaseFee = head.Hash(), new(big.Int).Add(h.Number, common.Big1), h.Time+blockTime, eip1559.CalcBaseFee(&l.rules, h)
		h.GasUsed, h.TxHash, h.ReceiptHash, h.Bloom = 0, types.EmptyTxsHash, types.EmptyReceiptsHash, types.Bloom{}
		head = types.NewBlockWithHeader(h).WithBody(types.Body{Withdrawals: []*types.Withdrawal{}})
		blocks[i] = head
	}
	return head, keep(db, blocks, make([]types.Receipts, n))
}

// keep writes blocks as geth would have after their import.
func keep(db ethdb.Database, blocks []*types.Block, receipts []types.Receipts) error {
	batch := db.NewBatch()
	for i, b := range blocks {
		rawdb.WriteBlock(batch, b)
		rawdb.WriteReceipts(batch, b.Hash(), b.NumberU64(), receipts[i])
		rawdb.WriteCanonicalHash(batch, b.Hash(), b.NumberU64())
		rawdb.WriteTxLookupEntriesByBlock(batch, b)
	}
	head := blocks[len(blocks)-1].Hash()
	rawdb.WriteHeadHeaderHash(batch, head)
	rawdb.WriteHeadBlockHash(batch, head)
	rawdb.WriteHeadFastBlockHash(batch, head)
	return batch.Write()
}
