// Package history remembers, in one file, what was seen of each contract: its list events, how far they were scanned,
// and what later audits want to know of earlier ones.
//
// Open and View read and verify the whole file, so that every answer comes from memory and none from a damaged page.
// Each change is one transaction, on disk before it is seen in memory: a process killed at any moment leaves the state
// before or after it. Where the disk takes nothing, Save fails, and what events tell lives in memory until it does.
// Without a path the same store lives in memory alone.
package history

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.etcd.io/bbolt"
)

// Target is one contract on one chain. The same address on another chain is another contract.
type Target struct {
	ChainID  uint64
	Contract common.Address
}

func (t Target) String() string { return fmt.Sprintf("%s on chain %d", t.Contract, t.ChainID) }

func (t Target) compare(o Target) int { return slices.Compare(targetKey(t), targetKey(o)) }

// Event is one change of a list, as the contract logged it.
type Event struct {
	Block     uint64
	BlockHash common.Hash
	Index     uint // of the log in its block
	Tx        common.Hash
	List      string         // what the topic means, in 1 to 64 bytes
	Key       common.Hash    // an address is padded on its left, as in a topic
	Added     bool           // else removed
	Actor     common.Address // zero: not known
	Time      time.Time      // of the block, to the second, in UTC; zero: not known
}

// Progress is how far a contract's events were scanned: every block from From to before Next.
type Progress struct {
	From, Next uint64
	Hash       common.Hash // of block Next-1
}

// item is what an event is about.
type item struct {
	list string
	key  common.Hash
}

// target is what is known of one contract.
type target struct {
	progress Progress // zero: nothing was scanned
	events   []Event  // by block and index
	tally    uint64   // of the events' checksums
	last     map[item]int
	blobs    map[string][]byte
}

// Store is the memory. Its methods may be called from several goroutines; what they return is the caller's own.
type Store struct {
	path string
	db   *bbolt.DB // nil: in memory, or a view

	mu      sync.RWMutex
	broken  error // why no change is taken
	roll    roll
	targets map[Target]*target
	version uint64 // since Open

	unwritten map[[2]string]change // by bucket and key: what the disk did not take yet
}

// Version is not 0 and changes whenever an event comes, goes or is annotated.
func (s *Store) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version + 1
}

// read calls f with what is known of t, unless that is nothing.
func (s *Store) read(t Target, f func(*target)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if known := s.targets[t]; known != nil {
		f(known)
	}
}

// Targets returns the contracts that something is known of, by chain and address.
func (s *Store) Targets() []Target {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Target
	for t := range s.targets {
		if t != (Target{}) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, Target.compare)
	return out
}

// Progress returns how far t was scanned, and false where it was not.
func (s *Store) Progress(t Target) (p Progress, ok bool) {
	s.read(t, func(known *target) { p = known.progress })
	return p, p != Progress{}
}

// Events returns t's events by block and index.
func (s *Store) Events(t Target) (events []Event) {
	s.read(t, func(known *target) { events = slices.Clone(known.events) })
	return events
}

// Last returns the newest event about a key of a list: what it says is what a replay of all events ends with.
func (s *Store) Last(t Target, list string, key common.Hash) (e Event, ok bool) {
	s.read(t, func(known *target) {
		var i int
		if i, ok = known.last[item{list, key}]; ok {
			e = known.events[i]
		}
	})
	return e, ok
}

// Known returns, per list, every key that an event of t names, in ascending order.
func (s *Store) Known(t Target) map[string][]common.Hash {
	out := map[string][]common.Hash{}
	s.read(t, func(known *target) {
		for it := range known.last {
			out[it.list] = append(out[it.list], it.key)
		}
	})
	for _, keys := range out {
		slices.SortFunc(keys, common.Hash.Cmp)
	}
	return out
}

// Load returns what Save kept of t under name, and false where there is nothing.
func (s *Store) Load(t Target, name string) (blob []byte, ok bool) {
	s.read(t, func(known *target) {
		blob, ok = known.blobs[name]
		blob = slices.Clone(blob)
	})
	return blob, ok
}

// push takes events that are newer than all others.
func (t *target) push(events []Event) {
	for _, e := range events {
		t.last[item{e.List, e.Key}] = len(t.events)
		t.events = append(t.events, e)
	}
}

// cut forgets the events from index n on.
func (t *target) cut(n int) {
	kept := t.events[:n]
	t.events, t.last = nil, map[item]int{}
	t.push(kept)
}
