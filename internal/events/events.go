// Package events indexes the events of a chain's contracts in the state.
//
// An event only contributes an id or an address. Whether the contract allows it is read from the contract. So a log that a
// provider invents costs one extra query, and a log that it hides leaves unaccounted storage.
package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// Options configure an Indexer.
type Options struct {
	Chain  string
	Client *ethrpc.Client
	State  *state.State
	From   map[common.Address]uint64 // configured deployment blocks; others are searched for
	Apps   int                       // the most apps to keep per contract; 0 for no limit

	// Progress reports how far a contract's events have been read. It is optional.
	Progress func(contract common.Address, next, to uint64)
}

// Indexer reads the events of one chain's contracts. It implements observe.Events and is not safe for concurrent use.
type Indexer struct {
	opt         Options
	offsets     map[state.Target]uint           // number of resets; each starts with another provider, which may have logs that the last one left out
	checkpoints map[state.Target][]ethrpc.Block // blocks up to which events were read, oldest first
	stale       map[state.Target]staleIDs
	refused     map[state.Target]uint64 // Batch failed; the Step for Update to start with
	actor       struct {                // the last address that Last converted
		address common.Address
		text    string
	}
}

// staleIDs has the ids from events that were reset. They count until events are read again up to the same block.
type staleIDs struct {
	named map[string][]common.Hash
	until uint64
}

// New returns an Indexer.
func New(o Options) *Indexer {
	if o.Progress == nil {
		o.Progress = func(common.Address, uint64, uint64) {}
	}
	return &Indexer{opt: o, offsets: map[state.Target]uint{}, checkpoints: map[state.Target][]ethrpc.Block{}, stale: map[state.Target]staleIDs{}, refused: map[state.Target]uint64{}}
}

func (x *Indexer) target(contract common.Address, public bool) state.Target {
	return state.Target{Chain: x.opt.Chain, Contract: contract, Public: public}
}

// Batch returns the calls that read all events at once, or nil if some were read before or a Batch failed.
func (x *Indexer) Batch(contract common.Address, public bool) *logs.Batch {
	t := x.target(contract, public)
	_, known := x.opt.State.Progress(t)
	if _, refused := x.refused[t]; known || refused {
		return nil
	}
	return &logs.Batch{Request: logs.Request{Contract: contract, Filters: filters[public], From: x.opt.From[contract]}, Public: public}
}

// Take stores the answers to a Batch.
func (x *Indexer) Take(b *logs.Batch) error {
	all, err := b.Logs()
	if err != nil {
		x.refused[x.target(b.Contract, b.Public)] = b.Step
		return err
	}
	to := ethrpc.Block{Number: b.To, Hash: b.ToHash}
	return x.keep(x.target(b.Contract, b.Public), b.From, to, to, all)
}

// Update reads new events up to block to. If it fails, it keeps the events read so far.
func (x *Indexer) Update(ctx context.Context, contract common.Address, public bool, to ethrpc.Block) error {
	t := x.target(contract, public)
	if err := x.rewind(ctx, t, to); err != nil {
		return err
	}
	from, after, err := x.from(ctx, t, to)
	if err != nil || from > to.Number {
		return err
	}
	step := x.refused[t]
	if step > 0 {
		x.refused[t] = 0 // only for the first scan
	}
	_, err = x.opt.Client.Scan(ctx, logs.Request{
		Contract: contract, Filters: filters[public], From: from, After: after, To: to.Number, ToHash: to.Hash, ProviderOffset: x.offsets[t], Step: step,
		OnBatch: func(from, until uint64, last common.Hash, logs []types.Log) error {
			return x.keep(t, from, ethrpc.Block{Number: until, Hash: last}, to, logs)
		},
	})
	if err != nil {
		return fmt.Errorf("reading the events of %s: %w", contract, err)
	}
	return nil
}

// keep stores the logs of blocks from to until, in a scan that ends at block to.
func (x *Indexer) keep(t state.Target, from uint64, until, to ethrpc.Block, logs []types.Log) error {
	events, err := decode(logs)
	if err != nil {
		return err
	}
	if !t.Public {
		x.opt.Progress(t.Contract, until.Number+1, to.Number)
	} else if events = x.firsts(t, events); x.opt.Apps > 0 && x.opt.State.Count(t)+len(events) > x.opt.Apps {
		return fmt.Errorf("more than %d apps are registered by block %d, which exceeds the memory limit", x.opt.Apps, until.Number)
	}
	if err := x.opt.State.Append(t, from, until.Number, until.Hash, events); err != nil {
		return err
	}
	if until.Number < to.Number {
		x.opt.State.Checkpoint()
		return nil
	}
	x.addCheckpoint(t, to)
	if old, ok := x.stale[t]; ok && to.Number >= old.until {
		delete(x.stale, t)
	}
	return nil
}

// firsts returns the first event about each new app. An app can be registered repeatedly.
func (x *Indexer) firsts(t state.Target, events []state.Event) []state.Event {
	known, seen := x.opt.State.Known(t)[apps], map[common.Hash]bool{}
	return slices.DeleteFunc(events, func(e state.Event) bool {
		_, before := slices.BinarySearchFunc(known, e.Key, common.Hash.Cmp)
		again := before || seen[e.Key]
		seen[e.Key] = true
		return again
	})
}

// from returns the first unread block, and the hash of the block before it if that was read. Public and other events start at the
// same block, the contract's deployment.
func (x *Indexer) from(ctx context.Context, t state.Target, to ethrpc.Block) (uint64, common.Hash, error) {
	if p, known := x.opt.State.Progress(t); known {
		return p.Next, p.Hash, nil
	}
	if from := x.opt.From[t.Contract]; from > 0 {
		return from, common.Hash{}, nil
	}
	other := t
	other.Public = !t.Public
	if p, _ := x.opt.State.Progress(other); p.From > 0 { // 0 if they were all read in one Batch
		return p.From, common.Hash{}, nil
	}
	from, err := x.opt.Client.DeploymentBlock(ctx, t.Contract, to.Number)
	return from, common.Hash{}, err
}

// maxCheckpoints limits the checkpoints. Beyond it, every second one is dropped.
const maxCheckpoints = 32

func (x *Indexer) addCheckpoint(t state.Target, b ethrpc.Block) {
	all := append(x.checkpoints[t], b)
	if len(all) > maxCheckpoints {
		stays := true
		all = slices.DeleteFunc(all, func(ethrpc.Block) bool { stays = !stays; return !stays })
	}
	x.checkpoints[t] = all
}

// rewind drops events of a branch that was reorganised away, back to the newest checkpoint or event whose block is still
// canonical. It forgets everything if reading began after the configured block.
func (x *Indexer) rewind(ctx context.Context, t state.Target, to ethrpc.Block) error {
	p, known := x.opt.State.Progress(t)
	if !known {
		return nil
	}
	if from := x.opt.From[t.Contract]; from > 0 && from < p.From {
		return x.forget(t, nil)
	}
	last := ethrpc.Block{Number: p.Next - 1, Hash: p.Hash}
	if last.Number == to.Number && last.Hash == to.Hash {
		return nil
	}
	if stands, err := x.isCanonical(ctx, last); stands || err != nil {
		return err
	}
	points := slices.Clone(x.checkpoints[t])
	for _, e := range x.opt.State.Events(t) {
		points = append(points, ethrpc.Block{Number: e.Block, Hash: e.BlockHash})
	}
	points = slices.DeleteFunc(points, func(b ethrpc.Block) bool { return b.Number < p.From || b.Number >= last.Number })
	slices.SortFunc(points, func(a, b ethrpc.Block) int { return cmp.Compare(a.Number, b.Number) })
	var failed error
	gone := sort.Search(len(points), func(i int) bool { // a block is canonical only if its ancestors are
		stands, err := x.isCanonical(ctx, points[i])
		failed = errors.Join(failed, err)
		return !stands
	})
	switch {
	case failed != nil:
		return failed
	case gone == 0:
		return x.forget(t, nil)
	}
	return x.forget(t, &points[gone-1])
}

// isCanonical reports whether the block is still on the chain.
func (x *Indexer) isCanonical(ctx context.Context, b ethrpc.Block) (bool, error) {
	is, err := x.opt.Client.BlockAt(ctx, b.Number)
	switch {
	case errors.Is(err, ethrpc.ErrNoState):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("checking block %d, up to which events were read: %w", b.Number, err)
	}
	return is.Hash == b.Hash, nil
}

// forget forgets events after a block, or all events if it is nil. Their ids stay in Named until events are read again.
func (x *Indexer) forget(t state.Target, behind *ethrpc.Block) error {
	p, _ := x.opt.State.Progress(t)
	x.stale[t] = staleIDs{x.named(t), max(p.Next, x.stale[t].until+1) - 1}
	if behind == nil {
		delete(x.checkpoints, t)
		return x.opt.State.Reset(t)
	}
	x.checkpoints[t] = slices.DeleteFunc(x.checkpoints[t], func(b ethrpc.Block) bool { return b.Number > behind.Number })
	return x.opt.State.Rewind(t, behind.Number, behind.Hash)
}

// Reset forgets all events of a contract, so that Update reads them again, from the next provider first.
func (x *Indexer) Reset(contract common.Address) error {
	var all error
	for _, t := range []state.Target{x.target(contract, false), x.target(contract, true)} {
		x.offsets[t]++
		all = errors.Join(all, x.forget(t, nil))
	}
	return all
}

// Named returns every key in events by list, including events that are to be read again.
func (x *Indexer) Named(contract common.Address) map[string][]common.Hash {
	named := x.named(x.target(contract, false))
	maps.Copy(named, x.named(x.target(contract, true))) // has other lists
	return named
}

func (x *Indexer) named(t state.Target) map[string][]common.Hash {
	named := maps.Clone(x.opt.State.Known(t))
	for list, old := range x.stale[t].named {
		seen := map[common.Hash]bool{}
		again := func(key common.Hash) (was bool) { was, seen[key] = seen[key], true; return was }
		named[list] = slices.DeleteFunc(slices.Concat(old, named[list]), again)
		if list != observe.Callers { // keep their order
			slices.SortFunc(named[list], common.Hash.Cmp)
		}
	}
	return named
}

// Last fills in the last events of ids. It removes, in place, ids without a known event.
func (x *Indexer) Last(contract common.Address, of []audit.ListChange) []audit.ListChange {
	last, times, known := x.opt.State.LastEvents(x.target(contract, false)), make([]time.Time, len(of)), of[:0]
	for i := range of {
		e := last[state.Item{List: string(of[i].List), Key: of[i].ID}]
		if e == nil {
			continue
		}
		c := audit.Changed{Block: e.Block, Tx: e.Tx}
		if times[i] = e.Time; !e.Time.IsZero() {
			c.Time = &times[i]
		}
		if e.Actor != (common.Address{}) {
			if e.Actor != x.actor.address { // most events have one actor, and Hex computes a hash
				x.actor.address, x.actor.text = e.Actor, e.Actor.Hex()
			}
			c.Actor = x.actor.text
		}
		known = append(known, audit.ListChange{List: of[i].List, ID: of[i].ID, Changed: c})
	}
	return known
}

// Callers fetches who registered apps: the sender of the transaction, or the contract that the sender called. It becomes the actor of
// the event, and Named returns it. Missing callers are fetched again with the next call.
func (x *Indexer) Callers(ctx context.Context, contract common.Address) {
	t := x.target(contract, true)
	var events []state.Event
	var refs []logs.Ref
	for _, e := range x.opt.State.Events(t) {
		if e.List == apps && e.Actor == (common.Address{}) && len(events) < maxAnnotated {
			events, refs = append(events, e), append(refs, logs.Ref{Block: e.BlockHash, Tx: e.Tx, Timed: true})
		}
	}
	infos := x.opt.Client.TxInfo(ctx, refs)
	for i, ref := range refs {
		if events[i].Actor = infos[ref].Sender; infos[ref].To != contract {
			events[i].Actor = infos[ref].To
		}
	}
	_ = x.opt.State.Annotate(t, events...) // cannot fail: the events were just read
}

// maxAnnotated limits the transactions that one audit fetches.
const maxAnnotated = 500

// Annotate fetches the times of a contract's events, and the senders of the last events of ids if no event names an actor. Both are
// for display only. It begins with the last events, does what it can before ctx ends, and reports whether everything is
// known now.
func (x *Indexer) Annotate(ctx context.Context, contract common.Address, of []audit.ListChange) bool {
	t := x.target(contract, false)
	last := x.opt.State.LastEvents(t)
	var events []state.Event
	var refs []logs.Ref
	asked := map[[2]uint64]bool{} // by block and index
	ask := func(e state.Event, actor bool) {
		at := [2]uint64{e.Block, uint64(e.Index)}
		if !asked[at] && (e.Time.IsZero() || actor && e.Actor == (common.Address{})) && len(events) < maxAnnotated {
			asked[at], events = true, append(events, e)
			refs = append(refs, logs.Ref{Block: e.BlockHash, Tx: e.Tx, Timed: !e.Time.IsZero(), NoSender: !actor})
		}
	}
	for _, c := range of {
		if e := last[state.Item{List: string(c.List), Key: c.ID}]; e != nil {
			ask(*e, true)
		}
	}
	for _, e := range x.opt.State.Events(t) {
		ask(e, false)
	}
	if len(events) == 0 {
		return true
	}
	infos := x.opt.Client.TxInfo(ctx, refs)
	whole := len(events) < maxAnnotated
	for i := range events {
		e, info := &events[i], infos[refs[i]]
		if !info.BlockTime.IsZero() {
			e.Time = info.BlockTime.Truncate(time.Second)
		}
		if e.Actor == (common.Address{}) {
			e.Actor = info.Sender
		}
		whole = whole && !e.Time.IsZero() && (refs[i].NoSender || e.Actor != (common.Address{}))
	}
	// The next call fetches again whatever could not be stored.
	return x.opt.State.Annotate(t, events...) == nil && whole
}

// The lists of events in the state.
const (
	devices = string(audit.Device)
	images  = string(audit.OSImage)
	mrs     = string(audit.AggregatedMR)
	apps    = observe.Apps

	implementations = observe.Implementations
)

// meaning is the effect of an event: its argument was added to a list or removed from it.
type meaning struct {
	list  string // empty for PolicyChanged, which names the actor of a change
	added bool
}

// byTopic maps topics of all generations of the contract.
var byTopic = hashed(map[string]meaning{
	"PolicyChanged(address,bytes32,bytes32,bool)": {},

	"KmsDeviceAdded(bytes32)":         {devices, true},
	"KmsDeviceRemoved(bytes32)":       {devices, false},
	"OsImageHashAdded(bytes32)":       {images, true},
	"OsImageHashRemoved(bytes32)":     {images, false},
	"KmsAggregatedMrAdded(bytes32)":   {mrs, true},
	"KmsAggregatedMrRemoved(bytes32)": {mrs, false},
	"AppRegistered(address)":          {apps, true},

	"Upgraded(address)": {implementations, true},

	// Before May 2025.
	"KmsDeviceIdRegistered(bytes32)":   {devices, true},
	"KmsDeviceIdDeregistered(bytes32)": {devices, false},
	"ImageRegistered(bytes32)":         {images, true},
	"ImageDeregistered(bytes32)":       {images, false},
	"AppImageMrAdded(bytes32)":         {images, true}, // the mapping is now allowedOsImages
	"AppImageMrRemoved(bytes32)":       {images, false},
})

// byPolicy maps the names in PolicyChanged, which since August 2026 gives the actor of a change, to lists.
var byPolicy = hashed(map[string]string{
	"kms-device": devices, "os-image": images, "kms-aggregated-mr": mrs,
})

// filters are the filters for owner events (false) and public events (true). PolicyChanged is filtered by its third topic. Hashes are
// sorted so that every process sends the same request, which a node can cache.
var filters = map[bool][]logs.Filter{
	false: {{topicsOf(devices, images, mrs, implementations)}, {topicsOf(""), nil, slices.SortedFunc(maps.Keys(byPolicy), common.Hash.Cmp)}},
	true:  {{topicsOf(apps)}},
}

func topicsOf(lists ...string) (out []common.Hash) {
	for topic, m := range byTopic {
		if slices.Contains(lists, m.list) {
			out = append(out, topic)
		}
	}
	slices.SortFunc(out, common.Hash.Cmp)
	return out
}

// hashed replaces names by their hashes.
func hashed[T any](byName map[string]T) map[common.Hash]T {
	out := map[common.Hash]T{}
	for name, v := range byName {
		out[crypto.Keccak256Hash([]byte(name))] = v
	}
	return out
}

// decode converts logs to events, with the actors from PolicyChanged.
func decode(logs []types.Log) ([]state.Event, error) {
	actors := map[state.Event]common.Address{} // by change and transaction
	for _, l := range logs {
		if m, known := byTopic[l.Topics[0]]; !known || m.list != "" {
			continue
		}
		if len(l.Topics) != 4 || len(l.Data) != 32 {
			return nil, malformedLog(l)
		}
		if list, known := byPolicy[l.Topics[2]]; known {
			actors[state.Event{Tx: l.TxHash, List: list, Key: l.Topics[3], Added: l.Data[31] == 1}] = common.BytesToAddress(l.Topics[1][12:])
		}
	}
	var events []state.Event
	for _, l := range logs {
		m := byTopic[l.Topics[0]]
		if m.list == "" {
			continue
		}
		key := common.BytesToHash(l.Data)
		switch {
		case m.list == implementations && len(l.Topics) == 2 && len(l.Data) == 0:
			key = l.Topics[1] // the only indexed argument
		case m.list == implementations || len(l.Topics) != 1 || len(l.Data) != 32:
			return nil, malformedLog(l)
		}
		e := state.Event{Tx: l.TxHash, List: m.list, Key: key, Added: m.added}
		e.Actor = actors[e]
		e.Block, e.BlockHash, e.Index = l.BlockNumber, l.BlockHash, l.Index
		if l.BlockTimestamp > 0 {
			e.Time = time.Unix(int64(l.BlockTimestamp), 0).UTC()
		}
		events = append(events, e)
	}
	return events, nil
}

func malformedLog(l types.Log) error {
	return fmt.Errorf("log %d of block %d has %d topics and %d bytes, which does not match its event", l.Index, l.BlockNumber, len(l.Topics), len(l.Data))
}
