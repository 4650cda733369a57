package consensus_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
)

// recording has the recorded answers of a devnet of real nodes: testdata/*/README.md.
type recording struct {
	network    consensus.Network
	checkpoint common.Hash
	bootstrap  []byte
	updates    [][]byte
	finality   []byte
	now        time.Time // when the finality update was signed
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	if err := json.Unmarshal(readFile(t, path), v); err != nil {
		t.Fatal(err)
	}
}

// devnet is on electra throughout; its updates span three periods.
func devnet(t testing.TB) *recording {
	t.Helper()
	var genesis struct{ Data map[string]string }
	readJSON(t, "testdata/devnet/genesis.json", &genesis)
	spec := map[string]string{"SYNC_COMMITTEE_SIZE": "512"}
	readYAML(t, "testdata/devnet/config.yaml", &spec)
	var checkpoint struct{ Data struct{ Root common.Hash } }
	readJSON(t, "testdata/devnet/checkpoint.json", &checkpoint)
	return record(t, "devnet", checkpoint.Data.Root, genesis.Data, spec)
}

// devnetForks goes from deneb over electra to fulu.
func devnetForks(t testing.TB) *recording {
	t.Helper()
	var genesis map[string]string
	readJSON(t, "testdata/devnet-forks/genesis.json", &genesis)
	var answer map[string]any
	readJSON(t, "testdata/devnet-forks/spec.json", &answer)
	spec := map[string]string{}
	for key, value := range answer {
		if text, ok := value.(string); ok {
			spec[key] = text
		}
	}
	return record(t, "devnet-forks", common.HexToHash("0x44e622b404d47f833acc161c8068fff81700415a468a345785f95e026c1b9a4f"), genesis, spec)
}

func record(t testing.TB, dir string, checkpoint common.Hash, genesis, spec map[string]string) *recording {
	t.Helper()
	for key, value := range genesis {
		spec[key] = value
	}
	network, err := consensus.NetworkFromSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{
		network: network, checkpoint: checkpoint,
		bootstrap: readFile(t, "testdata/"+dir+"/bootstrap.json"), finality: readFile(t, "testdata/"+dir+"/finality_update.json"),
	}
	if r.updates, err = consensus.SplitUpdates(readFile(t, "testdata/"+dir+"/updates.json")); err != nil {
		t.Fatal(err)
	}
	var finality struct {
		Data struct {
			Slot string `json:"signature_slot"`
		}
	}
	readJSON(t, "testdata/"+dir+"/finality_update.json", &finality)
	slot, _ := strconv.ParseUint(finality.Data.Slot, 10, 64)
	r.now = slotTime(network, slot)
	return r
}

func slotTime(n consensus.Network, slot uint64) time.Time {
	return time.Unix(int64(n.GenesisTime+slot*n.SecondsPerSlot), 0)
}

func (r *recording) start(t testing.TB) *consensus.Store {
	t.Helper()
	s, err := consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, r.now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow applies updates until NextPeriod returns false.
func (r *recording) follow(t testing.TB) *consensus.Store {
	t.Helper()
	s := r.start(t)
	for i, first := 0, s.Period(); ; i++ {
		period, more := s.NextPeriod(r.now)
		if !more || period-first >= uint64(len(r.updates)) {
			return s
		}
		if i > len(r.updates) {
			t.Fatalf("period %d is asked for without an end", period)
		}
		if err := s.Update(r.updates[period-first], r.now); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecordedChain follows real nodes from the checkpoint to their execution node's finalized block.
func TestRecordedChain(t *testing.T) {
	var block struct {
		Result struct {
			Number, Hash, ParentHash, StateRoot, Timestamp string
		}
	}
	readJSON(t, "testdata/devnet/execution_block.json", &block)
	r := devnet(t)
	s := r.follow(t)
	if err := s.Finality(r.finality, r.now); err != nil {
		t.Fatal(err)
	}
	got := s.Finalized()
	if got.BlockHash.Hex() != block.Result.Hash || got.ParentHash.Hex() != block.Result.ParentHash || got.StateRoot.Hex() != block.Result.StateRoot ||
		"0x"+strconv.FormatUint(got.BlockNumber, 16) != block.Result.Number || "0x"+strconv.FormatUint(got.Timestamp, 16) != block.Result.Timestamp {
		t.Errorf("%+v is final, want %+v", got, block.Result)
	}
	if err := s.Finality(r.finality, r.now); err != nil || s.Finalized() != got {
		t.Errorf("the same update again: %v", err)
	}
}

// TestRecordedForks crosses two forks, each in the middle of a period.
func TestRecordedForks(t *testing.T) {
	r := devnetForks(t)
	s := r.follow(t)
	if err := s.Finality(r.finality, r.now); err != nil {
		t.Fatal(err)
	}
	if got := s.Finalized(); got.Slot != 64 || got.Timestamp != r.network.GenesisTime+128 || s.Period() != 1 {
		t.Errorf("%+v is final", got)
	}
}

// TestRecordedChainGoesBackNowhere checks that valid older documents are ErrOlder and change nothing.
func TestRecordedChainGoesBackNowhere(t *testing.T) {
	r := devnet(t)
	s := r.follow(t)
	if err := s.Finality(r.finality, r.now); err != nil {
		t.Fatal(err)
	}
	before := *s
	for i, update := range r.updates[:2] {
		if err := s.Update(update, r.now); !errors.Is(err, consensus.ErrOlder) || *s != before {
			t.Errorf("update %d again: %v", i, err)
		}
	}
	fresh := r.start(t)
	if err := fresh.Update(r.updates[2], r.now); err == nil || !strings.Contains(err.Error(), "an update is missing") {
		t.Errorf("an update of two periods later: %v", err)
	}
	if err := fresh.Finality(r.finality, r.now); err == nil || !strings.Contains(err.Error(), "an update is missing") {
		t.Errorf("a finality update of two periods later: %v", err)
	}
}

// TestAge checks that a checkpoint and a Store are valid for two weeks.
func TestAge(t *testing.T) {
	r := devnet(t)
	s := r.follow(t)
	if err := s.Finality(r.finality, r.now); err != nil {
		t.Fatal(err)
	}
	ends := time.Unix(int64(s.Finalized().Timestamp), 0).Add(consensus.MaxCheckpointAge)
	if err := s.Finality(r.finality, ends); err != nil {
		t.Errorf("after two weeks: %v", err)
	}
	if err := s.Finality(r.finality, ends.Add(time.Second)); !errors.Is(err, consensus.ErrTooOld) {
		t.Errorf("a second later: %v", err)
	}
	ends = slotTime(r.network, 24).Add(consensus.MaxCheckpointAge)
	if _, err := consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, ends); err != nil {
		t.Errorf("a checkpoint after two weeks: %v", err)
	}
	_, err := consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, ends.Add(time.Second))
	if !errors.Is(err, consensus.ErrTooOld) || !strings.Contains(err.Error(), "from a source that you trust") {
		t.Errorf("a second later: %v", err)
	}
}

// TestNextPeriod checks that updates are needed until the next committee is known, and for every missed period. The first update is
// older than the checkpoint and gives only the committee.
func TestNextPeriod(t *testing.T) {
	r := devnet(t)
	s := r.start(t)
	for i, final := range []uint64{24, 48, 78} {
		want := []uint64{0, 1, math.MaxUint64}[i]
		period, more := s.NextPeriod(slotTime(r.network, 96))
		if !more {
			period = math.MaxUint64
		}
		if period != want {
			t.Errorf("before update %d: period %d is asked for, want %d", i, period, want)
		}
		if err := s.Update(r.updates[i], r.now); err != nil || s.Finalized().Slot != final {
			t.Errorf("after update %d: slot %d is final, want %d (%v)", i, s.Finalized().Slot, final, err)
		}
	}
}
