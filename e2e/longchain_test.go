//go:build e2e

package e2e_test

import (
	"crypto/ecdsa"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/consensus/misc/eip1559"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/triedb"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const (
	manyBlocks  = 200_000
	manyChanges = 20_000 // of lists; each has an event of the list and PolicyChanged
	busyBlocks  = 2000   // approximate number of blocks with transactions
	blockTime   = 10     // seconds, as in core.GenerateChain
)

// longChain is a chain of many blocks with a contract whose lists changed many times. No node seals that many blocks during a test,
// so the test executes them and writes a database, which a real geth then serves.
type longChain struct {
	rules   params.ChainConfig
	key     *ecdsa.PrivateKey
	owner   common.Address
	kms     common.Address
	ids     []common.Hash // devices, then images
	devices int
	allowed map[common.Hash]bool
	random  *rand.Rand
	done    int // changes
}

func newLongChain() *longChain {
	owner := testchain.Address("owner")
	c := &longChain{
		rules: *params.AllDevChainProtocolChanges, key: testchain.Key("owner"), owner: owner, kms: crypto.CreateAddress(owner, 1),
		ids: append(ids("device", 100), ids("image", 300)...), devices: 100, allowed: map[common.Hash]bool{}, random: rand.New(rand.NewPCG(5, 6)),
	}
	// With later rules every block would write to the protocol's system contracts.
	c.rules.PragueTime, c.rules.OsakaTime, c.rules.BogotaTime = nil, nil, nil
	return c
}

// write writes the chain into a folder for geth's --datadir.
func (c *longChain) write(t *testing.T, dir string) {
	t.Helper()
	kv, err := pebble.New(filepath.Join(dir, "geth", "chaindata"), 64, 64, "", false)
	must(t, err)
	db := rawdb.NewDatabase(kv)
	tries := triedb.NewDatabase(db, triedb.HashDefaults)
	genesis := &core.Genesis{
		Config: &c.rules, GasLimit: 30e6, Difficulty: new(big.Int), BaseFee: big.NewInt(1e9),
		Timestamp: uint64(time.Now().Unix()) - manyBlocks*blockTime,
		Alloc:     types.GenesisAlloc{c.owner: {Balance: new(big.Int).Lsh(big.NewInt(1), 100)}},
	}
	head, err := genesis.Commit(db, tries, nil)
	must(t, err)
	must(t, tries.Close())
	engine := beacon.New(ethash.NewFaker())
	for head.NumberU64() < manyBlocks {
		idle := c.idle(head)
		if len(idle) > 0 {
			head = idle[len(idle)-1]
		}
		busy, receipts := core.GenerateChain(&c.rules, head, engine, db, 1, func(_ int, b *core.BlockGen) { c.fill(t, b) })
		head = busy[0]
		must(t, keep(db, append(idle, head), append(make([]types.Receipts, len(idle)), receipts...)))
	}
	must(t, db.Close())
}

// idle returns empty blocks after head. They do not change the state.
func (c *longChain) idle(head *types.Block) []*types.Block {
	blocks := make([]*types.Block, min(c.random.Uint64N(2*manyBlocks/busyBlocks), manyBlocks-head.NumberU64()-1))
	for i := range blocks {
		h := head.Header()
		h.ParentHash, h.Number, h.Time, h.BaseFee = head.Hash(), new(big.Int).Add(h.Number, common.Big1), h.Time+blockTime, eip1559.CalcBaseFee(&c.rules, h)
		h.GasUsed, h.TxHash, h.ReceiptHash, h.Bloom = 0, types.EmptyTxsHash, types.EmptyReceiptsHash, types.Bloom{}
		head = types.NewBlockWithHeader(h).WithBody(types.Body{Withdrawals: []*types.Withdrawal{}})
		blocks[i] = head
	}
	return blocks
}

// keep writes blocks like geth after an import.
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

// fill adds transactions to a block: the deployment to the first one, and then the changes that are due.
func (c *longChain) fill(t *testing.T, b *core.BlockGen) {
	n := int(b.Number().Int64())
	if b.TxNonce(c.owner) == 0 {
		c.deploy(t, b)
	}
	a, err := testchain.Contract(testchain.Plain)
	must(t, err)
	for ; c.done < n*manyChanges/manyBlocks; c.done++ {
		i := c.random.IntN(len(c.ids))
		id, allow := c.ids[i], c.random.IntN(3) > 0
		methods := map[bool]string{true: "addOsImageHash", false: "removeOsImageHash"}
		if i < c.devices {
			methods = map[bool]string{true: "addKmsDevice", false: "removeKmsDevice"}
		}
		input, err := a.ABI.Pack(methods[allow], id)
		must(t, err)
		c.send(t, b, &c.kms, 100_000, input)
		c.allowed[id] = allow
	}
}

func (c *longChain) deploy(t *testing.T, b *core.BlockGen) {
	plain, err := testchain.Contract(testchain.Plain)
	must(t, err)
	proxy, err := testchain.Contract("ERC1967Proxy")
	must(t, err)
	initialize, err := plain.ABI.Pack("initialize", c.owner)
	must(t, err)
	args, err := proxy.ABI.Pack("", crypto.CreateAddress(c.owner, 0), initialize)
	must(t, err)
	c.send(t, b, nil, 10e6, plain.Bytecode)
	c.send(t, b, nil, 10e6, slices.Concat(proxy.Bytecode, args))
}

func (c *longChain) send(t *testing.T, b *core.BlockGen, to *common.Address, gas uint64, input []byte) {
	tx, err := types.SignNewTx(c.key, b.Signer(), &types.LegacyTx{
		Nonce: b.TxNonce(c.owner), To: to, Gas: gas, GasPrice: b.BaseFee(), Data: input,
	})
	must(t, err)
	b.AddTx(tx)
}

// claim returns the true claim.
func (c *longChain) claim(n *node) fakeapi.Chain {
	var devices []fakeapi.Device
	var images []fakeapi.OSImage
	for i, id := range c.ids {
		if i < c.devices {
			devices = append(devices, fakeapi.Device{ID: id.Hex(), Allowed: new(c.allowed[id])})
		} else {
			images = append(images, fakeapi.OSImage{Name: "image", Version: id.Hex()[:8], Hash: new(id.Hex()), Allowed: new(c.allowed[id])})
		}
	}
	return n.claim(c.kms, devices, images)
}
