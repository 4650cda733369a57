package history_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/history"
)

// filled returns the path of a closed file with about n events.
func filled(b *testing.B, n int) string {
	path := file(b)
	s := open(b, path)
	scan(b, s, kms, first+uint64(n)*2/3+4)
	s.Close()
	return path
}

func BenchmarkAppend20000(b *testing.B) {
	dir, n := b.TempDir(), 0
	const to = first + 20_000*2/3
	events := eventsOf(first, to)
	for b.Loop() {
		n++
		s := open(b, filepath.Join(dir, fmt.Sprint(n)))
		if err := s.Append(kms, first, to, blockHash(to), events); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkOpen opens, verifies and reads, as each command on the state file does.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := filled(b, n)
			for b.Loop() {
				s := open(b, path)
				if _, ok := s.Last(kms, "device", key(500)); !ok || len(s.Events(kms)) < n {
					b.Fatal("events are missing")
				}
				s.Close()
			}
		})
	}
}

func benchRead(b *testing.B, read func(*history.Store)) {
	s := open(b, filled(b, 20_000))
	for b.Loop() {
		read(s)
	}
}

func BenchmarkEvents20000(b *testing.B) {
	benchRead(b, func(s *history.Store) { s.Events(kms) })
}

func BenchmarkLastAmong20000(b *testing.B) {
	k := key(1)
	benchRead(b, func(s *history.Store) { s.Last(kms, "device", k) })
}

// BenchmarkAppendOne is one audit that saw one change: one transaction, on disk.
func BenchmarkAppendOne(b *testing.B) {
	s := open(b, filled(b, 20_000))
	for b.Loop() {
		p, _ := s.Progress(kms)
		if err := s.Append(kms, p.Next, p.Next, blockHash(p.Next), eventsOf(p.Next, p.Next)); err != nil {
			b.Fatal(err)
		}
	}
}
