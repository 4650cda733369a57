package main_test

import (
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/triedb"

	bench "github.com/kms-auditor/kms-auditor/bench"
)

func TestTheLedgerSaysWhatTheEntriesSay(t *testing.T) {
	s, err := bench.ParseSize("2x30")
	must(t, err)
	l, err := bench.NewLedger(s)
	must(t, err)
	dir := t.TempDir()
	must(t, l.Write(dir))
	kv, err := pebble.New(filepath.Join(dir, "geth", "chaindata"), 16, 16, "", true)
	must(t, err)
	db := rawdb.NewDatabase(kv)
	defer db.Close()
	blocks := l.Settled()
	if final := rawdb.ReadFinalizedBlockHash(db); final != blocks[0] {
		t.Errorf("block %s is final, want %s", final, blocks[0])
	}
	if head := rawdb.ReadHeadBlockHash(db); head != blocks[len(blocks)-1] {
		t.Errorf("the newest block is %s, want %s", head, blocks[len(blocks)-1])
	}
	for i, hash := range blocks {
		number, found := rawdb.ReadHeaderNumber(db, hash)
		if !found {
			t.Fatalf("there is no block %s", hash)
		}
		root := rawdb.ReadHeader(db, hash, number).Root
		at, err := state.New(root, state.NewDatabase(triedb.NewDatabase(db, triedb.HashDefaults), nil))
		must(t, err)
		for c, contract := range l.Contracts() {
			for n, e := range s.EntriesOf(c) {
				id, device, want := e.Says()
				if c == 0 && n == bench.Toggled {
					want = i%2 == 0 || i == len(blocks)-1
				}
				if got := at.GetState(contract, slot(id, device)) == common.BigToHash(common.Big1); got != want {
					t.Errorf("block %d, contract %d, entry %d: allowed is %t, want %t", number, c, n, got, want)
				}
			}
		}
	}
}

// slot is where the contract keeps an id.
func slot(id common.Hash, device bool) common.Hash {
	mapping := common.Hash{31: 8}
	if device {
		mapping[31] = 7
	}
	return crypto.Keccak256Hash(id[:], mapping[:])
}
