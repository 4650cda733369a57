package history_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/history"
)

// TestMain lets the test binary be the other process too: one that holds a file, or appends
// to it, or rewrites all its records, until it is killed.
func TestMain(m *testing.M) {
	path := os.Getenv("HISTORY_PATH")
	switch os.Getenv("HISTORY_CHILD") {
	case "hold":
		s, err := history.Open(path)
		fmt.Println(err)
		io.Copy(io.Discard, os.Stdin)
		s.Close()
	case "append":
		fmt.Println("started")
		s, err := history.Open(path)
		for err == nil {
			p, _ := s.Progress(kms)
			from := max(p.Next, first)
			to := from + from%7
			if err = s.Append(kms, from, to, blockHash(to), eventsOf(from, to)); err == nil {
				fmt.Println(to + 1)
			}
		}
		fmt.Println(err)
		os.Exit(1)
	case "rewrite":
		s, err := history.Open(path)
		for n := 0; err == nil; n++ {
			b := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 1000)
			blobs := make([]history.Blob, 200)
			for i := range blobs {
				blobs[i] = history.Blob{Target: history.Target{ChainID: uint64(i)}, Name: "audit", Data: b}
			}
			err = s.SaveAll(blobs...)
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
	kms   = history.Target{ChainID: 8453, Contract: common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")}
	other = history.Target{ChainID: 1, Contract: kms.Contract} // the same address, another chain
)

func blockHash(n uint64) common.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("block"), n))
}

// eventsOf returns what the blocks logged: none to three events each, about 17 keys, half of them with their actor.
func eventsOf(from, to uint64) (out []history.Event) {
	for n := from; n <= to; n++ {
		for i := range n % 4 {
			e := history.Event{
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

func open(t testing.TB, path string) *history.Store {
	t.Helper()
	s, err := history.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// scan appends blocks up to to.
func scan(t testing.TB, s *history.Store, target history.Target, to uint64) {
	t.Helper()
	p, _ := s.Progress(target)
	from := max(p.Next, first)
	if err := s.Append(target, from, to, blockHash(to), eventsOf(from, to)); err != nil {
		t.Fatal(err)
	}
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

// content is all that a store answers.
type content struct {
	Progress map[history.Target]history.Progress
	Events   map[history.Target][]history.Event
	Known    map[history.Target]map[string][]common.Hash
	Audit    map[history.Target]string
}

func read(s *history.Store) content {
	c := content{map[history.Target]history.Progress{}, map[history.Target][]history.Event{}, map[history.Target]map[string][]common.Hash{}, map[history.Target]string{}}
	for _, t := range s.Targets() {
		if p, ok := s.Progress(t); ok {
			c.Progress[t] = p
		}
		if blob, ok := s.Load(t, "audit"); ok {
			c.Audit[t] = string(blob)
		}
		if e := s.Events(t); len(e) > 0 {
			c.Events[t], c.Known[t] = e, s.Known(t)
		}
	}
	return c
}

// differ is cmp.Diff for two of what is equal nearly always: it reflects on a difference only.
func differ(want, got content) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}
