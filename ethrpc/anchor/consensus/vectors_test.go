package consensus_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
)

type step struct {
	Process *struct {
		Update string
		Slot   uint64 `yaml:"current_slot"`
		Checks checks
	} `yaml:"process_update"`
	Force *struct {
		Slot   uint64 `yaml:"current_slot"`
		Checks checks
	} `yaml:"force_update"`
}

type checks struct {
	Finalized  check `yaml:"finalized_header"`
	Optimistic check `yaml:"optimistic_header"`
}

type check struct {
	Slot uint64
	Root string `yaml:"beacon_root"`
}

func readYAML(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// specClient adds to Store what the specification's store has: optimistic headers and forced updates.
type specClient struct {
	*consensus.Store
	optimistic consensus.Header
	best       []byte // update that may be forced
	rank       int
}

// TestSpecVectors runs the vectors of ethereum/consensus-spec-tests (light_client/sync, minimal preset).
func TestSpecVectors(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/*/steps.yaml")
	if err != nil || len(dirs) != 6 {
		t.Fatalf("%d suites (%v)", len(dirs), err)
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		t.Run(strings.TrimPrefix(dir, "testdata/"), func(t *testing.T) {
			t.Parallel()
			fork := filepath.Base(filepath.Dir(dir))
			var meta struct {
				Genesis string `yaml:"genesis_validators_root"`
				Root    string `yaml:"trusted_block_root"`
			}
			var spec map[string]string
			var steps []step
			readYAML(t, dir+"/meta.yaml", &meta)
			readYAML(t, dir+"/config.yaml", &spec)
			readYAML(t, path, &steps)

			boot := readSSZ(t, dir+"/bootstrap.ssz_snappy", fork).bootstrap()
			header := boot["header"].(object)
			slot, _ := strconv.ParseUint(header["beacon"].(object)["slot"].(string), 10, 64)
			blockTime, _ := strconv.ParseUint(header["execution"].(object)["timestamp"].(string), 10, 64)
			for key, value := range map[string]string{
				"genesis_time": strconv.FormatUint(blockTime-6*slot, 10), "genesis_validators_root": meta.Genesis,
				"SLOTS_PER_EPOCH": "8", "EPOCHS_PER_SYNC_COMMITTEE_PERIOD": "8", "SYNC_COMMITTEE_SIZE": "32",
			} {
				spec[key] = value
			}
			network, err := consensus.NetworkFromSpec(spec)
			if err != nil {
				t.Fatal(err)
			}
			at := func(slot uint64) time.Time {
				return time.Unix(int64(network.GenesisTime+slot*network.SecondsPerSlot), 0)
			}
			store, err := consensus.Bootstrap(network, common.HexToHash(meta.Root), document(t, fork, boot), at(slot))
			if err != nil {
				t.Fatal(err)
			}
			c := &specClient{Store: store, optimistic: store.Finalized()}
			for i, s := range steps {
				var want checks
				if s.Process != nil {
					want = s.Process.Checks
					update := document(t, fork, readSSZ(t, dir+"/"+s.Process.Update+".ssz_snappy", fork).update())
					err = c.process(update, s.Process.Update, at(s.Process.Slot))
				} else {
					want = s.Force.Checks
					err = c.force(s.Force.Slot)
				}
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				if got := c.Finalized(); got.Slot != want.Finalized.Slot || got.Root != common.HexToHash(want.Finalized.Root) {
					t.Fatalf("step %d: slot %d, %s is final, want %v", i, got.Slot, got.Root, want.Finalized)
				}
				if got := c.optimistic; got.Slot != want.Optimistic.Slot || got.Root != common.HexToHash(want.Optimistic.Root) {
					t.Fatalf("step %d: slot %d, %s is the optimistic header, want %v", i, got.Slot, got.Root, want.Optimistic)
				}
			}
		})
	}
}

// process applies an update whose name says whether it has the next committee (s.) and finality (.f).
func (c *specClient) process(update []byte, name string, now time.Time) error {
	withCommittee, withFinality := strings.Contains(name, "_s"), strings.HasSuffix(name, "f")
	attested, err := c.CheckAttested(update, withCommittee, now)
	if err != nil {
		return err
	}
	if attested.Slot > c.optimistic.Slot {
		c.optimistic = attested
	}
	rank := 0 // is_better_update, as far as it matters here
	if withCommittee {
		rank += 2
	}
	if withFinality {
		rank++
	}
	if c.best == nil || rank > c.rank {
		c.best, c.rank = update, rank
	}
	if !withFinality {
		return nil
	}
	apply := c.Finality
	if withCommittee {
		apply = c.Update
	}
	before := c.Finalized()
	switch err = apply(update, now); {
	case errors.Is(err, consensus.ErrOlder):
		return nil // not an error in the specification
	case err == nil && before != c.Finalized():
		c.best = nil
	}
	return err
}

// force applies the best update if there was no finality for a whole period.
func (c *specClient) force(slot uint64) error {
	if c.best == nil || slot <= c.Finalized().Slot+64 {
		return nil
	}
	err := c.Force(c.best, c.rank >= 2)
	c.best = nil
	if c.Finalized().Slot > c.optimistic.Slot {
		c.optimistic = c.Finalized()
	}
	return err
}
