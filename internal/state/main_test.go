package state_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// TestMain lets the test binary be the other process too: one that holds a file, or appends
// to it, or rewrites all its records, until it is killed.
func TestMain(m *testing.M) {
	path := os.Getenv("STATE_PATH")
	switch os.Getenv("STATE_CHILD") {
	case "hold":
		s, err := state.Open(path)
		fmt.Println(err)
		io.Copy(io.Discard, os.Stdin)
		s.Close()
	case "append":
		fmt.Println("started")
		s, err := state.Open(path)
		for err == nil {
			p, _ := s.Progress(kms)
			from := max(p.Next, first)
			to := from + from%7
			if err = errors.Join(s.Append(kms, from, to, blockHash(to), eventsOf(from, to)), s.Save()); err == nil {
				fmt.Println(to + 1)
			}
		}
		fmt.Println(err)
		os.Exit(1)
	case "rewrite":
		s, err := state.Open(path)
		for n := 0; err == nil; n++ {
			all := make([]audit.Chain, 200)
			for i := range all {
				all[i] = audit.Chain{Chain: fmt.Sprint(i), Policy: fmt.Sprint(n)}
			}
			s.Record(&audit.Report{AuditID: fmt.Sprint(n), Chains: all}, nil, nil)
			err = s.Save()
			if n == 10 {
				fmt.Println("started")
			}
		}
		fmt.Println(err)
	default:
		os.Exit(m.Run())
	}
}

// first is where histories begin here.
const first = 100

var (
	kms   = state.Target{Chain: "base", Contract: common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")}
	other = state.Target{Chain: "ethereum", Contract: kms.Contract} // the same address, another chain
)

func blockHash(n uint64) common.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("block"), n))
}

// eventsOf returns what the blocks logged: none to three events each, about 17 keys, half of them with their actor.
func eventsOf(from, to uint64) (out []state.Event) {
	for n := from; n <= to; n++ {
		for i := range n % 4 {
			e := state.Event{
				Block:     n,
				BlockHash: blockHash(n),
				Index:     uint(2*i + 1),
				Tx:        sha256.Sum256(binary.BigEndian.AppendUint64([]byte("tx"), n)),
				List:      []string{"device", "os_image"}[(n+i)%2],
				Key:       key(n*5 + i),
				Added:     (n+i)%3 > 0,
			}
			if n%2 == 0 {
				e.Actor, e.Time = kms.Contract, time.Unix(int64(1_700_000_000+2*n), 0).UTC()
			}
			out = append(out, e)
		}
	}
	return out
}

func key(n uint64) common.Hash { return sha256.Sum256([]byte{byte(n % 17)}) }

func open(t testing.TB, path string) *state.State {
	t.Helper()
	s, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// scan appends blocks up to to.
func scan(t testing.TB, s *state.State, target state.Target, to uint64) {
	t.Helper()
	p, _ := s.Progress(target)
	from := max(p.Next, first)
	if err := s.Append(target, from, to, blockHash(to), eventsOf(from, to)); err != nil {
		t.Fatal(err)
	}
}

// oldContract is that of testdata/schema2.db.gz.
var oldContract = common.HexToAddress("0x33823ccF68511d262f5B5597e381e3c335a2855b")

func sha(n int) []byte {
	s := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return s[:16]
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

// content is all that a state answers.
type content struct {
	Progress  map[state.Target]state.Progress
	Events    map[state.Target][]state.Event
	Known     map[state.Target]map[string][]common.Hash
	Prior     map[string]audit.Prior
	Last      []state.Chain
	Compared  []state.Chain
	Resolved  []state.Resolved
	Outbox    []audit.Change
	AuditID   string
	Forgotten []render.Event
}

func read(s *state.State) content {
	c := content{Progress: map[state.Target]state.Progress{}, Events: map[state.Target][]state.Event{}, Known: map[state.Target]map[string][]common.Hash{}, Prior: map[string]audit.Prior{},
		Last: s.Last(), Compared: s.Compared(), Resolved: s.Resolved(), Forgotten: s.Timeline(state.Filter{Lists: []string{state.Contracts}}).Events}
	c.AuditID, c.Outbox = s.Outbox()
	for _, name := range s.Chains() {
		c.Prior[name] = s.Prior(name)
		for _, contract := range []common.Address{kms.Contract, oldContract} {
			t := state.Target{Chain: name, Contract: contract}
			if p, ok := s.Progress(t); ok {
				c.Progress[t] = p
			}
			if e := s.Events(t); len(e) > 0 {
				c.Events[t], c.Known[t] = e, s.Known(t)
			}
		}
	}
	return c
}

// differ is cmp.Diff for two of what is equal nearly always: it reflects on a difference only.
func differ(want, got content) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}
