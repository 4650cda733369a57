package state_test

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// registered returns the events of n apps, each in its own transaction and block.
func registered(n int) []state.Event {
	hash := func(what string, n int) common.Hash {
		return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(what), uint64(n)))
	}
	out := make([]state.Event, n)
	for i := range out {
		out[i] = state.Event{Block: uint64(1 + i), BlockHash: hash("block", i), Index: 7, Tx: hash("tx", i), List: "app", Key: hash("app", i), Added: true}
		clear(out[i].Key[:12])
	}
	return out
}

// Benchmark200000Apps is a contract with as many apps as may be proven.
func Benchmark200000Apps(b *testing.B) {
	const n = 200_000
	path := file(b)
	s := open(b, path)
	events := registered(n)
	must(b, s.Append(kms, 1, n, events[n-1].BlockHash, events))
	l := life{t: b, path: path, state: s}
	l.audit("drift", noon)
	info, err := os.Stat(path)
	must(b, err)
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			s.Record(&audit.Report{}, nil, make([]audit.Change, 1))
			s.MarkLogged()
			must(b, s.Save())
		}
		b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
	})
	b.Run("view", func(b *testing.B) {
		for b.Loop() {
			if len(view(b, path).Known(kms)["app"]) != n {
				b.Fatal("apps are missing")
			}
		}
	})
}

// BenchmarkAudit is what a live KMS costs: an audit that sees the same is recorded and saved.
func BenchmarkAudit(b *testing.B) {
	path := file(b)
	write(b, path, sample(b))
	s := open(b, path)
	scan(b, s, kms, 300)
	for i := 0; b.Loop(); i++ {
		r, out := judge(s.Prior("base"), "drift", noon.Add(time.Duration(i+5)*time.Minute))
		s.Record(r, map[string]audit.Prior{"base": out.Next}, out.Changes)
		s.MarkLogged()
		must(b, s.Save())
	}
	info, err := os.Stat(path)
	must(b, err)
	b.ReportMetric(float64(info.Size())/1024, "KiB")
}
