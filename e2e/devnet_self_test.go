//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rpc"
)

// finality is a light client's finality update, as far as it matters here.
type finality struct {
	Version string
	Data    struct {
		Attested  struct{ Beacon beaconHeader } `json:"attested_header"`
		Finalized struct {
			Beacon    beaconHeader
			Execution struct {
				Number uint64      `json:"block_number,string"`
				Hash   common.Hash `json:"block_hash"`
			}
		} `json:"finalized_header"`
	}
}

type beaconHeader struct {
	Slot uint64 `json:",string"`
}

// The devnet finalizes what geth executes, changes its committee and its rules, and proves all of it to light clients.
func TestDevnet(t *testing.T) {
	t.Parallel()
	began := time.Now()
	passed := func(what string, args ...any) {
		t.Logf("%3.0f s: %s", time.Since(began).Seconds(), fmt.Sprintf(what, args...))
	}
	d := startDevnet(t, forks{electra: 6, fulu: 10}) // nothing is finalized before epoch 4
	passed("block 1")
	for key, want := range map[string]string{
		"SECONDS_PER_SLOT": "2", "SLOTS_PER_EPOCH": "8", "EPOCHS_PER_SYNC_COMMITTEE_PERIOD": "8", "ELECTRA_FORK_EPOCH": "6", "FULU_FORK_EPOCH": "10",
	} {
		if d.spec[key] != want {
			t.Errorf("the spec has %s = %v, want %s", key, d.spec[key], want)
		}
	}

	kms := d.deploy(t)
	must(t, kms.AllowDevice(t.Context(), id(prod5)))
	deployed, err := d.client.BlockNumber(t.Context())
	must(t, err)
	passed("a KMS in block %d", deployed)

	first := d.checkpoint(t)
	passed("a bootstrap of %s", first)
	// A period has 64 slots: whoever starts in the first needs the updates of two to follow finality in the third.
	seen := map[string]bool{}
	d.await(t, "finality in the third period", func() error {
		f, err := d.finality(t)
		if err != nil {
			return err
		}
		if !seen[f.Version] {
			seen[f.Version] = true
			passed("finality under %s, of slot %d", f.Version, f.Data.Finalized.Beacon.Slot)
		}
		if slot := f.Data.Finalized.Beacon.Slot; slot < 2*64 {
			return fmt.Errorf("slot %d is finalized", slot)
		}
		return nil
	})
	passed("finality in the third period")
	for _, fork := range []string{"deneb", "electra", "fulu"} {
		if !seen[fork] {
			t.Errorf("no finality update came under %s", fork)
		}
	}

	var boot struct{ Header struct{ Beacon beaconHeader } }
	must(t, d.get(t, "/eth/v1/beacon/light_client/bootstrap/"+first.Hex(), &boot))
	if boot.Header.Beacon.Slot >= 64 {
		t.Errorf("the first bootstrap is of slot %d, want one of the first period", boot.Header.Beacon.Slot)
	}
	var updates []finality
	must(t, d.getAll(t, "/eth/v1/beacon/light_client/updates?start_period=0&count=3", &updates))
	if len(updates) < 2 {
		t.Fatalf("%d updates, want one for each period that has ended", len(updates))
	}
	for i, u := range updates {
		if slot := u.Data.Attested.Beacon.Slot; slot/64 != uint64(i) {
			t.Errorf("update %d attests slot %d", i, slot)
		}
	}

	f, err := d.finality(t)
	must(t, err)
	want := f.Data.Finalized.Execution
	d.await(t, "geth's finality", func() error {
		head, err := d.client.HeaderByNumber(t.Context(), big.NewInt(int64(rpc.FinalizedBlockNumber)))
		if err == nil && head.Number.Uint64() < want.Number {
			err = errors.New("geth has not heard of it")
		}
		return err
	})
	block, err := d.client.HeaderByNumber(t.Context(), new(big.Int).SetUint64(want.Number))
	must(t, err)
	if block.Hash() != want.Hash {
		t.Errorf("geth's block %d is %s, and light clients are told of %s", want.Number, block.Hash(), want.Hash)
	}
	if want.Number <= deployed {
		t.Errorf("block %d is finalized, and the contract came in %d", want.Number, deployed)
	}
	code, err := d.client.CodeAt(t.Context(), kms.Address(), block.Number)
	must(t, err)
	if len(code) == 0 {
		t.Error("the contract has no code in the finalized block")
	}
}

func (d *devnet) finality(t testing.TB) (f finality, err error) {
	t.Helper()
	err = d.getAll(t, "/eth/v1/beacon/light_client/finality_update", &f)
	return f, err
}
