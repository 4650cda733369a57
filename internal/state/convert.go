package state

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Releases before schema 3 used a bbolt database with the buckets kms-auditor (the schema), events (target, block, index → event),
// progress (target → Progress) and blobs (target, name → JSON, mostly gzipped). A target is a chain id and an address. Every
// value outside the first bucket ends with the first bytes of a SHA-256 over bucket, key and value.

// isBolt reports whether b begins with the first page of a bbolt database.
func isBolt(b []byte) bool {
	return len(b) >= 20 && binary.NativeEndian.Uint32(b[16:]) == 0xED0CDAED
}

// keepOld saves the content of a converted file next to the new one. It is never deleted.
func keepOld(path string, b []byte) error {
	backup := path + ".bbolt-backup"
	if have, err := os.ReadFile(backup); err == nil && !bytes.Equal(have, b) {
		backup += "-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	}
	return replace(backup, backup+".tmp", b)
}

// convert reads a bbolt database. It takes bbolt's lock, since a process of an earlier release may have it open.
func convert(path string, b []byte) (s *State, err error) {
	// bbolt panics on invalid pages, and reading a truncated file faults.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			s, err = nil, damaged(fmt.Errorf("%v", v))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("it was written by an earlier release: %w", &HeldError{})
	case errors.As(err, new(*os.PathError)):
		return nil, err
	case err != nil:
		return nil, damaged(err)
	}
	defer db.Close()
	s = &State{path: path, old: b, due: true}
	old := converter{state: s, scans: map[string]*scan{}, sums: map[string]uint64{}, blobs: map[string][]byte{}}
	return s, damaged(db.View(old.read))
}

type converter struct {
	state *State
	scans map[string]*scan  // by target
	sums  map[string]uint64 // XOR of the events' checksums, by target
	blobs map[string][]byte // by target and name
}

const (
	oldTargetLen = 8 + common.AddressLength
	oldSumLen    = 8
)

func (o *converter) read(tx *bbolt.Tx) error {
	about := tx.Bucket([]byte("kms-auditor"))
	if about == nil {
		switch k, _ := tx.Cursor().First(); {
		case k == nil && tx.ID() <= 1: // the process was killed before it wrote anything
			return nil
		case k == nil:
			return errors.New("it has no buckets")
		}
		return &unusable{errors.New("is another program's database")}
	}
	written := string(about.Get([]byte("schema")))
	if written != "1" && written != "2" {
		return fmt.Errorf("its schema is %s", sanitize.Quote(written))
	}
	count, sums := uint64(0), uint64(0) // of progress and blobs, in schema 2
	for _, name := range []string{"events", "progress", "blobs"} {
		bucket := tx.Bucket([]byte(name))
		if bucket == nil {
			return fmt.Errorf("it has no %s", name)
		}
		err := bucket.ForEach(func(k, v []byte) error {
			n := len(v) - oldSumLen
			if len(k) < oldTargetLen || n < 0 {
				return errForm
			}
			h := sha256.New()
			for _, part := range [][]byte{[]byte(name), binary.BigEndian.AppendUint32(nil, uint32(len(k))), k, v[:n]} {
				h.Write(part)
			}
			if !bytes.Equal(h.Sum(nil)[:oldSumLen], v[n:]) {
				return errors.New("a record does not match its checksum")
			}
			if sum := binary.BigEndian.Uint64(v[n:]); name == "events" {
				o.sums[string(k[:oldTargetLen])] ^= sum
			} else {
				count, sums = count+1, sums^sum
			}
			return o.record(name, k, v[:n])
		})
		if err != nil {
			return err
		}
	}
	counted := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, count), sums)
	if written != "1" && !bytes.HasPrefix(about.Get([]byte("roll")), counted) {
		return errors.New("its records do not match their count and checksum")
	}
	return o.finish()
}

func (o *converter) record(bucket string, k, b []byte) error {
	const event = 3*common.HashLength + common.AddressLength + 8 + 1 // without the list's name
	t, key := string(k[:oldTargetLen]), k[oldTargetLen:]
	if o.scans[t] == nil {
		o.scans[t] = &scan{}
	}
	known := o.scans[t]
	switch {
	case bucket == "blobs":
		o.blobs[string(k)] = bytes.Clone(b)
	case bucket == "events" && len(key) == 16 && len(b) > event && len(b) <= event+maxList:
		// Like the current format, without the length of the list's name.
		e, _, err := cutEvent(slices.Concat(key, b[:event], []byte{byte(len(b) - event)}, b[event:]))
		known.push(e)
		return err
	case bucket == "progress" && len(b) == 8+8+common.HashLength+8+8:
		known.progress = Progress{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), common.Hash(b[16:48])}
		if n := binary.BigEndian.Uint64(b[48:]); n != uint64(len(known.events)) || binary.BigEndian.Uint64(b[56:]) != o.sums[t] {
			return fmt.Errorf("it has %d events, want %d", len(known.events), n)
		}
	default:
		return errForm
	}
	return nil
}

// load decodes a gzipped blob that belongs to no contract. Without one it leaves v unchanged.
func (o *converter) load(name string, v any) error {
	packed, ok := o.blobs[string(make([]byte, oldTargetLen))+name]
	if !ok {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(z, 64<<20)).Decode(v)
	}
	return err
}

// oldFinding is an open or resolved finding, or a change.
type oldFinding struct {
	audit.Change
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"`
	Told       time.Time `json:"told"`
	ResolvedAt time.Time `json:"resolved_at"`
}

// finding returns the finding with its times.
func (f oldFinding) finding() audit.Finding {
	f.Finding.FirstSeen, f.Finding.LastConfirmedAt, f.Finding.State = &f.FirstSeen, &f.LastSeen, audit.Still
	return f.Finding
}

// finish converts the records.
func (o *converter) finish() error {
	s := o.state
	var audits []Chain
	var found struct{ Open, Resolved []oldFinding }
	var untold struct {
		AuditID string       `json:"audit_id"`
		Changes []oldFinding `json:"changes"`
	}
	if err := cmp.Or(o.load("audits", &audits), o.load("findings", &found), o.load("untold", &untold)); err != nil {
		return err
	}
	names := map[uint64]string{} // the last name of each chain
	for _, c := range slices.SortedFunc(slices.Values(audits), func(a, b Chain) int { return a.FinishedAt.Compare(b.FinishedAt) }) {
		names[c.ChainID] = c.Chain.Chain
	}
	for _, a := range audits {
		c, whole := s.chain(a.Chain.Chain), a
		if err := cmp.Or(o.load("last:"+c.Name, &whole), o.load("compared:"+c.Name, &c.Compared)); err != nil {
			return err
		}
		a.Errors, a.Targets = whole.Errors, whole.Targets
		c.ID, c.Last = a.ChainID, &a
		if a.compared() {
			c.Compared = nil
		}
	}
	at := func(target string) (*chain, common.Address) {
		id := binary.BigEndian.Uint64([]byte(target))
		c := s.chain(cmp.Or(names[id], strconv.FormatUint(id, 10)))
		c.ID = id
		return c, common.Address([]byte(target[8:]))
	}
	for t, known := range o.scans {
		if known.progress != (Progress{}) {
			c, contract := at(t)
			s.addScan(Target{Chain: c.Name, Contract: contract}, known)
		}
	}
	for k, b := range o.blobs {
		if k[oldTargetLen:] == "baseline" {
			c, contract := at(k[:oldTargetLen])
			base := &audit.Baseline{}
			if err := json.Unmarshal(b, base); err != nil {
				return fmt.Errorf("reading the baseline of %s: %w", contract, err)
			}
			c.contract(contract, base.Since).Baseline = base
		}
	}
	for _, c := range s.chains {
		s.known(c)
		c.adopt()
	}
	for _, f := range found.Open {
		c := s.chain(f.Chain)
		c.Prior.Open = append(c.Prior.Open, audit.OpenFinding{Contract: f.Contract, Finding: f.finding(), Block: f.Block, Logged: f.Told})
	}
	for _, f := range found.Resolved {
		s.resolved = append(s.resolved, Resolved{f.Chain, f.Contract, f.finding(), f.ResolvedAt})
	}
	for _, f := range untold.Changes {
		s.outbox.Changes = append(s.outbox.Changes, audit.Change{Type: f.Type, Chain: f.Chain, Contract: f.Contract, Finding: f.finding(), At: f.LastSeen})
	}
	s.outbox.AuditID = untold.AuditID
	return nil
}

// contract returns what is known about a contract. It adds the contract if it is new.
func (c *chain) contract(a common.Address, since time.Time) *audit.Known {
	if c.Prior.Contract(a) == nil {
		c.Prior.Contracts = append(c.Prior.Contracts, audit.Known{Address: a, Since: since.UTC()})
	}
	return c.Prior.Contract(a)
}

// known adds a chain's contracts that have events or were read by the last audit, with the ids in them. Pending changes are not
// converted: the next audit finds them again.
func (s *State) known(c *chain) {
	for _, t := range s.targets() {
		if t.Chain == c.Name && !t.Public {
			k, known := c.contract(t.Contract, time.Now()), s.Known(t)
			for _, l := range audit.Lists {
				*k.IDs(l) = slices.Clone(known[string(l)])
			}
		}
	}
	for _, last := range []*Chain{c.Last, c.Compared} {
		for _, t := range targetsOf(last) {
			a, err := sanitize.ParseAddress(t.Contract)
			if err != nil || t.Assurance == "" { // nothing was read there
				continue
			}
			k := c.contract(a, last.StartedAt)
			for _, e := range t.Entries {
				if ids := k.IDs(e.List); ids != nil {
					if id, err := sanitize.ParseID(e.ID); err == nil {
						*ids = append(*ids, id)
					}
				}
			}
		}
	}
	for i := range c.Prior.Contracts {
		k := &c.Prior.Contracts[i]
		for _, l := range audit.Lists {
			ids := k.IDs(l)
			slices.SortFunc(*ids, common.Hash.Cmp)
			*ids = slices.Compact(*ids)
		}
	}
	slices.SortFunc(c.Prior.Contracts, func(a, b audit.Known) int { return a.Address.Cmp(b.Address) })
}
