package simtest_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
)

type saved struct {
	Prior map[string]audit.Prior
	Named map[common.Address]*observe.Named
	Next  map[common.Address]uint64
	Hash  map[common.Address]common.Hash
}
type store struct {
	file string
	saved
}

func openStore(file string) (*store, error) {
	s := &store{file: file, saved: saved{Prior: map[string]audit.Prior{}, Named: map[common.Address]*observe.Named{}, Next: map[common.Address]uint64{}, Hash: map[common.Address]common.Hash{}}}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &s.saved)
	} else if os.IsNotExist(err) {
		err = nil
	}
	return s, err
}
func (s *store) reset() { os.Remove(s.file); s.file = "" }
func (s *store) close() error {
	if s == nil || s.file == "" {
		return nil
	}
	b, _ := json.Marshal(s.saved)
	return os.WriteFile(s.file, b, 0o600)
}
func (s *store) prior() map[string]audit.Prior { return s.Prior }
func (s *store) record(r observe.Result) {
	for k, v := range r.Next {
		s.Prior[k] = v
	}
}

type events struct {
	c    *ethrpc.Client
	s    *store
	turn uint
}

func newEvents(c *ethrpc.Client, s *store) *events { return &events{c, s, 0} }

var evTopics = func() (out []common.Hash) {
	for _, n := range []string{"KmsDeviceAdded(bytes32)", "KmsDeviceRemoved(bytes32)", "OsImageHashAdded(bytes32)", "OsImageHashRemoved(bytes32)", "KmsAggregatedMrAdded(bytes32)", "KmsAggregatedMrRemoved(bytes32)", "AppRegistered(address)"} {
		out = append(out, crypto.Keccak256Hash([]byte(n)))
	}
	return
}()

func (e *events) named(a common.Address) *observe.Named {
	if e.s.Named[a] == nil {
		e.s.Named[a] = &observe.Named{}
	}
	return e.s.Named[a]
}

func (e *events) Update(ctx context.Context, a common.Address, to ethrpc.Block) error {
	n := e.named(a)
	add := func(l *[]common.Hash, h common.Hash) {
		if !slices.Contains(*l, h) {
			*l = append(*l, h)
		}
	}
	_, err := e.c.Scan(ctx, ethrpc.ScanRequest{Contract: a, Topics: evTopics, From: 0, To: to.Number, ToHash: to.Hash, ProviderOffset: e.turn,
		OnBatch: func(from, until uint64, last common.Hash, logs []types.Log) error {
			for _, l := range logs {
				if len(l.Data) < 32 {
					continue
				}
				h := common.BytesToHash(l.Data[:32])
				switch slices.Index(evTopics, l.Topics[0]) {
				case 0, 1:
					add(&n.Devices, h)
				case 2, 3:
					add(&n.OSImages, h)
				case 4, 5:
					add(&n.AggregatedMRs, h)
				case 6:
					x := common.BytesToAddress(h[:])
					if !slices.Contains(n.Apps, x) {
						n.Apps = append(n.Apps, x)
					}
				}
			}
			return nil
		}})
	return err
}
func (e *events) Reset(common.Address) error { e.turn++; return nil }
func (e *events) Named(a common.Address) observe.Named {
	n := *e.named(a)
	n.Devices, n.OSImages = slices.Clone(n.Devices), slices.Clone(n.OSImages)
	n.AggregatedMRs, n.Apps = slices.Clone(n.AggregatedMRs), slices.Clone(n.Apps)
	return n
}
func (e *events) Last(common.Address, audit.List, common.Hash) *audit.Changed { return nil }
func (e *events) Annotate(context.Context, common.Address, map[audit.List][]common.Hash) bool {
	return true
}
