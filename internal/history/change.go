package history

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// change is one record to write, or to delete where value is nil.
type change struct {
	bucket     string
	key, value []byte
}

func (c change) apply(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(c.bucket))
	if c.value == nil {
		return b.Delete(c.key)
	}
	return b.Put(c.key, c.value)
}

// commit writes all the changes or none, and those before that could not be written. Where bbolt itself breaks, the file
// takes no more of them.
func (s *Store) commit(changes []change) error {
	if s.db == nil || s.broken != nil {
		return s.broken
	}
	next := s.called(changes)
	crashed, err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			for _, c := range slices.Concat(slices.Collect(maps.Values(s.unwritten)), changes, next.seal()) {
				if err := c.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if crashed {
		s.broken = refusal(s.path, err)
		return s.broken
	}
	if err != nil {
		return fmt.Errorf("writing state file %s: %w", quote.Plain(s.path), err)
	}
	s.roll, s.unwritten = next, nil
	return nil
}

// called is the roll once the changes are written.
func (s *Store) called(changes []change) roll {
	next := maps.Clone(s.roll)
	for _, c := range changes {
		next.call(c.bucket, c.key, c.value)
	}
	return next
}

// learn is commit for what the chain says. A disk that takes nothing must not make it unknown: it is in memory then, and
// goes along with the next change that can be written.
func (s *Store) learn(changes []change) error {
	err := s.commit(changes)
	if err == nil || s.broken != nil || errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return err
	}
	if s.unwritten == nil {
		s.unwritten = map[[2]string]change{}
	}
	for _, c := range changes {
		s.unwritten[[2]string{c.bucket, string(c.key)}] = c
	}
	s.roll = s.called(changes)
	return nil
}

// of returns what is known of t, which may be nothing yet: it is kept in s once something is.
func (s *Store) of(t Target) *target {
	if known := s.targets[t]; known != nil {
		return known
	}
	return &target{last: map[item]int{}, blobs: map[string][]byte{}}
}

// Append keeps the events of the blocks from from to to, in their order, and that these were scanned; hash is that of
// block to. It must continue exactly where Progress ends; without progress, from is where the history begins.
func (s *Store) Append(t Target, from, to uint64, hash common.Hash, events []Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.of(t)
	p := known.progress
	if p == (Progress{}) {
		p.From, p.Next = from, from
	}
	if from != p.Next || to < from || to == math.MaxUint64 {
		return fmt.Errorf("appending blocks %d to %d of %s: the history goes on at %d", from, to, t, p.Next)
	}
	events = slices.Clone(events)
	if err := inOrder(events, from, to, hash); err != nil {
		return fmt.Errorf("appending blocks %d to %d of %s: %w", from, to, t, err)
	}
	p.Next, p.Hash = to+1, hash
	tally, changes := known.tally, make([]change, 0, len(events)+1)
	for i := range events {
		if e := &events[i]; !e.Time.IsZero() {
			e.Time = seconds(e.Time.Unix())
		}
		c, n := sealEvent(t, events[i])
		tally ^= n
		changes = append(changes, c)
	}
	if err := s.learn(append(changes, sealProgress(t, p, len(known.events)+len(events), tally))); err != nil {
		return err
	}
	known.push(events)
	if len(events) > 0 {
		s.version++
	}
	known.progress, known.tally, s.targets[t] = p, tally, known
	return nil
}

// inOrder tells whether events can be what blocks from from to to logged, where to has the hash.
func inOrder(events []Event, from, to uint64, hash common.Hash) error {
	for i, e := range events {
		switch {
		case e.Block < from || e.Block > to:
			return fmt.Errorf("there is an event of block %d", e.Block)
		case e.List == "" || len(e.List) > maxListLen:
			return fmt.Errorf("a list's name has %d bytes, want 1 to %d", len(e.List), maxListLen)
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

// Rewind forgets what was scanned above block to, after a reorg; hash is what block to has now, and must be that of
// the events kept in it. A block before the history's first forgets the whole scan, as Reset does.
func (s *Store) Rewind(t Target, to uint64, hash common.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.of(t)
	p := known.progress
	if p == (Progress{}) || to >= p.Next {
		return fmt.Errorf("rewinding %s to block %d: it was not scanned", t, to)
	}
	if to < p.From {
		return s.forget(t, known, 0, Progress{})
	}
	n, _ := slices.BinarySearchFunc(known.events, to+1, func(e Event, block uint64) int { return cmp.Compare(e.Block, block) })
	if n > 0 && known.events[n-1].Block == to && known.events[n-1].BlockHash != hash {
		return fmt.Errorf("rewinding %s to block %d: its events are of hash %s, not %s", t, to, known.events[n-1].BlockHash, hash)
	}
	p.Next, p.Hash = to+1, hash
	return s.forget(t, known, n, p)
}

// Reset forgets t's scan: its progress and events. What Save kept stays.
func (s *Store) Reset(t Target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forget(t, s.of(t), 0, Progress{})
}

// forget drops the events from index n on; p is what is left of the progress.
func (s *Store) forget(t Target, known *target, n int, p Progress) error {
	tally := known.tally
	var changes []change
	for _, e := range known.events[n:] {
		c, one := sealEvent(t, e)
		tally ^= one
		changes = append(changes, change{c.bucket, c.key, nil})
	}
	if p == (Progress{}) {
		changes = append(changes, change{progressBucket, targetKey(t), nil})
	} else {
		changes = append(changes, sealProgress(t, p, n, tally))
	}
	if err := s.learn(changes); err != nil {
		return err
	}
	known.cut(n)
	s.version++
	known.progress, known.tally = p, tally
	s.prune(t, known)
	return nil
}

// prune forgets a target that nothing is known of any more.
func (s *Store) prune(t Target, known *target) {
	if known.progress == (Progress{}) && len(known.blobs) == 0 {
		delete(s.targets, t)
	}
}

// Annotate tells the actor and the time, where they are given, of events that were appended without.
func (s *Store) Annotate(t Target, events ...Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.of(t)
	tally := known.tally
	var changes []change
	changed := map[int]Event{}
	for _, note := range events {
		i, ok := slices.BinarySearchFunc(known.events, note, byPlace)
		if !ok || known.events[i].BlockHash != note.BlockHash {
			return fmt.Errorf("annotating log %d of block %d of %s: there is no such event", note.Index, note.Block, t)
		}
		e, ok := changed[i]
		if !ok {
			e = known.events[i]
		}
		_, before := sealEvent(t, e)
		if note.Actor != (common.Address{}) {
			e.Actor = note.Actor
		}
		if !note.Time.IsZero() {
			e.Time = seconds(note.Time.Unix())
		}
		c, after := sealEvent(t, e)
		tally ^= before ^ after
		changes, changed[i] = append(changes, c), e
	}
	if len(changes) == 0 {
		return nil
	}
	if err := s.learn(append(changes, sealProgress(t, known.progress, len(known.events), tally))); err != nil {
		return err
	}
	for i, e := range changed {
		known.events[i] = e
	}
	known.tally = tally
	s.version++
	return nil
}

// Blob is what is kept of a target under a name. One of no contract is kept under the zero Target.
type Blob struct {
	Target Target
	Name   string
	Data   []byte // nil: to be forgotten
}

// Save keeps a blob of t under name, in place of an earlier one; a nil blob forgets it.
func (s *Store) Save(t Target, name string, blob []byte) error { return s.SaveAll(Blob{t, name, blob}) }

// SaveAll saves all the blobs or none.
func (s *Store) SaveAll(blobs ...Blob) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := make([]change, len(blobs))
	for i, b := range blobs {
		if b.Name == "" {
			return errors.New("saving a blob: it has no name")
		}
		if changes[i] = (change{blobBucket, blobKey(b.Target, b.Name), nil}); b.Data != nil {
			changes[i] = seal(blobBucket, changes[i].key, slices.Clone(b.Data))
		}
	}
	if err := s.commit(changes); err != nil {
		return err
	}
	for _, b := range blobs {
		known := s.of(b.Target)
		if b.Data == nil {
			delete(known.blobs, b.Name)
			s.prune(b.Target, known)
		} else {
			known.blobs[b.Name], s.targets[b.Target] = slices.Clone(b.Data), known
		}
	}
	return nil
}
