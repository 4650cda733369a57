package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
	"unique"

	"github.com/ethereum/go-ethereum/common"
)

// Target is one contract on one chain.
type Target struct {
	Chain    string
	Contract common.Address
	Public   bool // the events that anyone can emit, instead of those that only the owner can
}

func (t Target) String() string { return fmt.Sprintf("%s on %s", t.Contract, t.Chain) }

// Event is a change of a list that the contract logged.
type Event struct {
	Block     uint64
	BlockHash common.Hash
	Index     uint // of the log in its block
	Tx        common.Hash
	List      string         // 1 to 64 bytes
	Key       common.Hash    // an address is padded on the left, as in a topic
	Added     bool           // false if removed
	Actor     common.Address // zero if not known
	Time      time.Time      // of the block, in seconds, UTC; zero if not known
}

// Progress is the range of blocks whose events were read: from From up to but not including Next.
type Progress struct {
	From uint64      `json:"from"`
	Next uint64      `json:"next"`
	Hash common.Hash `json:"hash"` // of block Next-1
}

// scan has the events of one contract.
type scan struct {
	progress Progress // zero if nothing was read
	events   []Event  // by block and index

	// Derived from events when first needed.
	last  map[Item]*Event // the newest event of an item
	known map[string][]common.Hash
}

// Item is what an event is about.
type Item struct {
	List string
	Key  common.Hash
}

// scanOf returns the scan of t, or an empty one.
func (s *State) scanOf(t Target) *scan { return cmp.Or(s.scans[t], &scan{}) }

func (s *State) setScan(t Target, of *scan) {
	if s.scans == nil {
		s.scans = map[Target]*scan{}
	}
	s.scans[t] = of
}

// targets lists the scanned targets, sorted by chain, stream and contract.
func (s *State) targets() []Target {
	place := map[string]int{}
	for i, c := range s.chains {
		place[c.Name] = i
	}
	return slices.SortedFunc(maps.Keys(s.scans), func(a, b Target) int {
		return cmp.Or(place[a.Chain]-place[b.Chain], cmp.Compare(streams[a.Public], streams[b.Public]), a.Contract.Cmp(b.Contract))
	})
}

// addScan adds a scan of all events of a contract, from a release that did not separate public events.
func (s *State) addScan(t Target, whole *scan) {
	for _, t.Public = range []bool{false, true} {
		s.setScan(t, &scan{progress: whole.progress})
	}
	for _, e := range whole.events {
		t.Public = e.List == apps
		s.scans[t].push(e)
	}
}

// Progress returns how far t was read, or false if it was not.
func (s *State) Progress(t Target) (Progress, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.scanOf(t).progress
	return p, p != Progress{}
}

// Count returns the number of t's events.
func (s *State) Count(t Target) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.scanOf(t).events)
}

// Events returns t's events by block and index.
func (s *State) Events(t Target) []Event {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.scanOf(t).events)
}

// LastEvents returns the newest event about each item. The events must be read before the next call of Annotate, which changes
// them.
func (s *State) LastEvents(t Target) map[Item]*Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.scanOf(t)
	if known.last == nil {
		known.last = map[Item]*Event{}
		for i := range known.events {
			e := &known.events[i]
			known.last[Item{e.List, e.Key}] = e
		}
	}
	return known.last
}

// Callers is the list in Known of the accounts that registered apps.
const Callers = "caller"

// Known returns, by list, every key in t's events in ascending order. Callers are in the order in which they first registered an app.
func (s *State) Known(t Target) map[string][]common.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.scanOf(t)
	if of.known != nil {
		return of.known
	}
	known := map[string][]common.Hash{}
	for i := range of.events {
		e := &of.events[i]
		known[e.List] = append(known[e.List], e.Key)
	}
	for list, keys := range known {
		slices.SortFunc(keys, common.Hash.Cmp)
		known[list] = slices.Compact(keys)
	}
	seen := map[common.Address]bool{{}: true}
	for i := range of.events {
		if e := &of.events[i]; e.List == apps && !seen[e.Actor] {
			seen[e.Actor] = true
			known[Callers] = append(known[Callers], common.BytesToHash(e.Actor[:]))
		}
	}
	of.known = known
	return known
}

// push appends events. They must be newer than all others.
func (c *scan) push(events ...Event) {
	c.last, c.known = nil, nil
	c.events = append(c.events, events...)
}

// Append adds the events of blocks from to to, in order, and records that these blocks were read. hash is the hash of block to. from
// must be Progress.Next, unless nothing was read yet.
func (s *State) Append(t Target, from, to uint64, hash common.Hash, events []Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.scanOf(t)
	p := known.progress
	if p == (Progress{}) {
		p.From, p.Next = from, from
	}
	err := inOrder(events, from, to, hash)
	if from != p.Next || to < from || to == math.MaxUint64 {
		err = fmt.Errorf("the next block to append is %d", p.Next)
	}
	if err != nil {
		return fmt.Errorf("appending blocks %d to %d of %s: %w", from, to, t, err)
	}
	for _, e := range events {
		e.Time = e.Time.UTC().Truncate(time.Second)
		known.push(e)
	}
	known.progress = Progress{p.From, to + 1, hash}
	s.chain(t.Chain) // adds the chain if it is new
	s.setScan(t, known)
	s.due, s.stale = s.due || len(events) > 0, true
	return nil
}

const maxList = 64

// inOrder checks that events are in order and within blocks from to to, and that hashes are consistent.
func inOrder(events []Event, from, to uint64, hash common.Hash) error {
	for i, e := range events {
		switch {
		case e.Block < from || e.Block > to:
			return fmt.Errorf("it has an event of block %d", e.Block)
		case e.List == "" || len(e.List) > maxList:
			return fmt.Errorf("a list's name has %d bytes, want 1 to %d", len(e.List), maxList)
		case e.Block == to && e.BlockHash != hash:
			return fmt.Errorf("block %d has two hashes, %s and %s", to, e.BlockHash, hash)
		case i == 0:
		case byPlace(events[i-1], e) >= 0:
			return fmt.Errorf("log %d of block %d comes after log %d of block %d", e.Index, e.Block, events[i-1].Index, events[i-1].Block)
		case events[i-1].Block == e.Block && events[i-1].BlockHash != e.BlockHash:
			return fmt.Errorf("block %d has two hashes, %s and %s", e.Block, events[i-1].BlockHash, e.BlockHash)
		}
	}
	return nil
}

func byPlace(a, b Event) int {
	return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Index, b.Index))
}

// Rewind forgets events after block to, because of a reorganisation. hash is the current hash of block to, and must match the
// events in it. If to is before the first block read, everything is forgotten.
func (s *State) Rewind(t Target, to uint64, hash common.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.scanOf(t)
	p := known.progress
	if p == (Progress{}) || to >= p.Next {
		return fmt.Errorf("rewinding %s to block %d: it was not read", t, to)
	}
	n, _ := slices.BinarySearchFunc(known.events, to+1, func(e Event, block uint64) int { return cmp.Compare(e.Block, block) })
	if n > 0 && known.events[n-1].Block == to && known.events[n-1].BlockHash != hash {
		return fmt.Errorf("rewinding %s to block %d: its events are of hash %s, not %s", t, to, known.events[n-1].BlockHash, hash)
	}
	if s.due = true; to < p.From {
		delete(s.scans, t)
	} else {
		s.scans[t] = &scan{progress: Progress{p.From, to + 1, hash}, events: slices.Clone(known.events[:n])}
	}
	return nil
}

// Reset forgets the events and the progress of t.
func (s *State) Reset(t Target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.scans, t)
	s.due = true
	return nil
}

// Annotate adds actors and times to known events. Zero values are ignored.
func (s *State) Annotate(t Target, events ...Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.scanOf(t)
	known := of.events
	of.known = nil
	for _, note := range events {
		i, ok := slices.BinarySearchFunc(known, note, byPlace)
		if !ok || known[i].BlockHash != note.BlockHash {
			return fmt.Errorf("annotating log %d of block %d of %s: there is no such event", note.Index, note.Block, t)
		}
		if note.Actor != (common.Address{}) {
			known[i].Actor = note.Actor
		}
		if !note.Time.IsZero() {
			known[i].Time = note.Time.UTC().Truncate(time.Second)
		}
		s.due = true
	}
	return nil
}

// record is the fixed part of an event in the file, big-endian. The list's name follows.
type record struct {
	Block, Index       uint64
	BlockHash, Tx, Key common.Hash
	Actor              common.Address
	Time               int64 // Unix time in seconds; 0 if not known
	Added              bool
	ListLen            uint8
}

var recordLen = binary.Size(record{})

// appendEvent encodes an event.
func appendEvent(b []byte, e Event) ([]byte, error) {
	r := record{e.Block, uint64(e.Index), e.BlockHash, e.Tx, e.Key, e.Actor, 0, e.Added, uint8(len(e.List))}
	if !e.Time.IsZero() {
		r.Time = e.Time.Unix()
	}
	b, err := binary.Append(b, binary.BigEndian, &r)
	return append(b, e.List...), err
}

var errForm = errors.New("a record has the wrong form")

// cutEvent decodes the event at the start of b.
func cutEvent(b []byte) (e Event, rest []byte, err error) {
	var r record
	if n, err := binary.Decode(b, binary.BigEndian, &r); err != nil || len(b) < n+int(r.ListLen) {
		return e, nil, errForm
	}
	list, rest := b[recordLen:recordLen+int(r.ListLen)], b[recordLen+int(r.ListLen):]
	name := unique.Make(string(list)).Value() // share one copy among all events
	e = Event{r.Block, r.BlockHash, uint(r.Index), r.Tx, name, r.Key, r.Added, r.Actor, time.Time{}}
	if r.Time != 0 {
		e.Time = time.Unix(r.Time, 0).UTC()
	}
	return e, rest, nil
}
