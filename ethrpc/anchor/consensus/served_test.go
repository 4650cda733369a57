package consensus_test

import (
	"fmt"
	"io"
	"math/big"
	"net/http"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// ours is an execution header that a test knows.
func ours(number int64, time uint64) *types.Header {
	return &types.Header{
		Number: big.NewInt(number), Time: time, ParentHash: common.Hash{1}, Root: common.Hash{2}, Extra: []byte("ours"), BaseFee: big.NewInt(1 << 40),
		WithdrawalsHash: new(common.Hash), BlobGasUsed: new(uint64), ExcessBlobGas: new(uint64),
	}
}

// TestServedChain follows the test beacon node over HTTP, from a checkpoint over several periods to a known execution header.
func TestServedChain(t *testing.T) {
	chain := beacon.New(beacon.Options{GenesisTime: 1_700_000_000})
	network, err := consensus.NetworkFromSpec(chain.Spec())
	if err != nil {
		t.Fatal(err)
	}
	url := testenv.Serve(t, chain) + "/eth/v1/beacon/light_client/"
	get := func(path string) []byte {
		t.Helper()
		res, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		return b
	}
	checkpoint := chain.Finalize(ours(1, network.GenesisTime+100))
	s, err := consensus.Bootstrap(network, checkpoint, get("bootstrap/"+checkpoint.Hex()), slotTime(network, 100))
	if err != nil {
		t.Fatal(err)
	}
	last := ours(2, network.GenesisTime+2500)
	root, now := chain.Finalize(last), slotTime(network, 2502)
	for i := 0; ; i++ {
		period, more := s.NextPeriod(now)
		if !more || i == 10 {
			break
		}
		updates, err := consensus.SplitUpdates(get(fmt.Sprintf("updates?start_period=%d&count=2", period)))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range updates {
			if err := s.Update(u, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Finality(get("finality_update"), now); err != nil {
		t.Fatal(err)
	}
	want := consensus.Header{Slot: 2500, Root: root, BlockNumber: 2, BlockHash: last.Hash(), ParentHash: last.ParentHash, StateRoot: last.Root, Timestamp: last.Time}
	if s.Finalized() != want {
		t.Errorf("%+v is final, want %+v", s.Finalized(), want)
	}
}
