// Package events keeps the state up to date with the events of a chain's contracts.
//
// An event only names an id or an address: what the contract says of it is read like everything else. So a provider that
// invents a log costs one question, and one that hides a log leaves storage that nothing explains.
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
	Chain  string // its name
	Client *ethrpc.Client
	State  *state.State
	From   map[common.Address]uint64 // the blocks of deployment that are configured; others are found
	Apps   int                       // of a contract, that are kept at most; 0: all

	// Progress says how far a contract's events are read, for a person who waits for a long history. It is optional.
	Progress func(contract common.Address, next, to uint64)
}

// Indexer reads the list events of one chain's contracts. It is an observe.Events, for one goroutine.
type Indexer struct {
	opt         Options
	offsets     map[state.Target]uint           // how often events were reset: another provider may have what one left out
	checkpoints map[state.Target][]ethrpc.Block // up to which events were read, the oldest first
	stale       map[state.Target]staleIDs
	refused     map[state.Target]uint64 // a Batch failed: the Step to begin with instead
	actor       struct {                // of the last answer of Last
		address common.Address
		text    string
	}
}

// staleIDs is what events named before they were reset. It counts until they are read anew up to where they had been.
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

// Batch returns the calls that read all events at once; nil: some were read before, or a Batch was no use.
func (x *Indexer) Batch(contract common.Address, public bool) *logs.Batch {
	t := x.target(contract, public)
	_, known := x.opt.State.Progress(t)
	if _, refused := x.refused[t]; known || refused {
		return nil
	}
	return &logs.Batch{Request: logs.Request{Contract: contract, Filters: filters[public], From: x.opt.From[contract]}, Public: public}
}

// Take keeps what a Batch was answered.
func (x *Indexer) Take(b *logs.Batch) error {
	all, err := b.Logs()
	if err != nil {
		x.refused[x.target(b.Contract, b.Public)] = b.Step
		return err
	}
	to := ethrpc.Block{Number: b.To, Hash: b.ToHash}
	return x.keep(x.target(b.Contract, b.Public), b.From, to, to, all)
}

// Update reads the events that came since the last Update, up to block to. What was read before an error is kept.
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
		x.refused[t] = 0 // the chain grows
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

// keep keeps the logs from a block up to until, of a scan that goes up to block to.
func (x *Indexer) keep(t state.Target, from uint64, until, to ethrpc.Block, logs []types.Log) error {
	events, err := decode(logs)
	if err != nil {
		return err
	}
	if !t.Public {
		x.opt.Progress(t.Contract, until.Number+1, to.Number)
	} else if events = x.firsts(t, events); x.opt.Apps > 0 && x.opt.State.Count(t)+len(events) > x.opt.Apps {
		return fmt.Errorf("more than %d apps are registered by block %d, which is all that the memory limit leaves room for", x.opt.Apps, until.Number)
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

// firsts are those events that name an app which no earlier one names: one app can be registered over and over.
func (x *Indexer) firsts(t state.Target, events []state.Event) []state.Event {
	known, seen := x.opt.State.Known(t)[apps], map[common.Hash]bool{}
	return slices.DeleteFunc(events, func(e state.Event) bool {
		_, before := slices.BinarySearchFunc(known, e.Key, common.Hash.Cmp)
		again := before || seen[e.Key]
		seen[e.Key] = true
		return again
	})
}

// from is the first block that was not read yet, and the hash of the one before, if that was read. The contract's other events
// begin where these do, which is where it was deployed.
func (x *Indexer) from(ctx context.Context, t state.Target, to ethrpc.Block) (uint64, common.Hash, error) {
	if p, known := x.opt.State.Progress(t); known {
		return p.Next, p.Hash, nil
	}
	if from := x.opt.From[t.Contract]; from > 0 {
		return from, common.Hash{}, nil
	}
	other := t
	other.Public = !t.Public
	if p, _ := x.opt.State.Progress(other); p.From > 0 { // 0: they were all read at once
		return p.From, common.Hash{}, nil
	}
	from, err := x.opt.Client.DeploymentBlock(ctx, t.Contract, to.Number)
	return from, common.Hash{}, err
}

// maxCheckpoints bounds how many are kept. Beyond it every second one goes.
const maxCheckpoints = 32

func (x *Indexer) addCheckpoint(t state.Target, b ethrpc.Block) {
	all := append(x.checkpoints[t], b)
	if len(all) > maxCheckpoints {
		stays := true
		all = slices.DeleteFunc(all, func(ethrpc.Block) bool { stays = !stays; return !stays })
	}
	x.checkpoints[t] = all
}

// rewind forgets what was read of a branch that is gone: it goes back to the newest checkpoint or event whose block is still
// there. It forgets all where reading began behind the block that is configured now.
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
	gone := sort.Search(len(points), func(i int) bool { // blocks build on each other
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

// forget forgets the events behind a block; nil: all. What they named is asked for until they are read anew.
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

// Reset forgets all events of a contract, so that the next Updates read them anew, from the next provider first.
func (x *Indexer) Reset(contract common.Address) error {
	var all error
	for _, t := range []state.Target{x.target(contract, false), x.target(contract, true)} {
		x.offsets[t]++
		all = errors.Join(all, x.forget(t, nil))
	}
	return all
}

// Named returns every key of a list that an event ever named, those too that are to be read anew.
func (x *Indexer) Named(contract common.Address) map[string][]common.Hash {
	named := x.named(x.target(contract, false))
	maps.Copy(named, x.named(x.target(contract, true))) // which has other lists
	return named
}

func (x *Indexer) named(t state.Target) map[string][]common.Hash {
	named := maps.Clone(x.opt.State.Known(t))
	for list, old := range x.stale[t].named {
		seen := map[common.Hash]bool{}
		again := func(key common.Hash) (was bool) { was, seen[key] = seen[key], true; return was }
		named[list] = slices.DeleteFunc(slices.Concat(old, named[list]), again)
		if list != observe.Callers { // those stay in their order
			slices.SortFunc(named[list], common.Hash.Cmp)
		}
	}
	return named
}

// Last fills in the last events of the ids, and leaves out, in place, those of which none is known.
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
			if e.Actor != x.actor.address { // nearly all events are one owner's, and the checksum is a hash
				x.actor.address, x.actor.text = e.Actor, e.Actor.Hex()
			}
			c.Actor = x.actor.text
		}
		known = append(known, audit.ListChange{List: of[i].List, ID: of[i].ID, Changed: c})
	}
	return known
}

// Callers finds out who called the contract for its apps to be registered: the sender of the transaction, or the contract that
// the sender called. It is the actor of these events, and Named has it. What cannot be found out now is asked for again.
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
	_ = x.opt.State.Annotate(t, events...) // they were just read
}

// maxAnnotated bounds what one audit asks for.
const maxAnnotated = 500

// Annotate finds out when events came, and who sent them. It asks first for the last events of the ids, and for their actors; then,
// for display, for the times of all other events of the owner's. It does what it can in the time that ctx leaves, and
// reports whether nothing is left to find out.
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
			refs = append(refs, logs.Ref{Block: e.BlockHash, Tx: e.Tx, Timed: !e.Time.IsZero(), Untold: !actor})
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
		whole = whole && !e.Time.IsZero() && (refs[i].Untold || e.Actor != (common.Address{}))
	}
	// What cannot be kept is asked for again the next time.
	return x.opt.State.Annotate(t, events...) == nil && whole
}

// The lists that events name, as they are remembered.
const (
	devices = string(audit.Device)
	images  = string(audit.OSImage)
	mrs     = string(audit.AggregatedMR)
	apps    = observe.Apps

	implementations = observe.Implementations
)

// meaning is what an event says: that its one argument was added to a list, or removed.
type meaning struct {
	list  string // empty: it says who made a change
	added bool
}

// byTopic has the list events of all generations of the contract.
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
	"AppImageMrAdded(bytes32)":         {images, true}, // of a mapping that is allowedOsImages now
	"AppImageMrRemoved(bytes32)":       {images, false},
})

// byPolicy has the lists by the names under which PolicyChanged, since August 2026, tells the actor of a change.
var byPolicy = hashed(map[string]string{
	"kms-device": devices, "os-image": images, "kms-aggregated-mr": mrs,
})

// filters are those of the events that the owner alone can cause, and of those that anybody can. PolicyChanged is both, by its
// third topic. Hashes are sorted: every process asks the same question, which can be answered from a cache.
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

// hashed has the values by the hashes of their names.
func hashed[T any](byName map[string]T) map[common.Hash]T {
	out := map[common.Hash]T{}
	for name, v := range byName {
		out[crypto.Keccak256Hash([]byte(name))] = v
	}
	return out
}

// decode turns the logs of a piece into events, with the actors that PolicyChanged names beside them.
func decode(logs []types.Log) ([]state.Event, error) {
	actors := map[state.Event]common.Address{} // by what is done in one transaction
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
			key = l.Topics[1] // the one argument that is indexed
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
	return fmt.Errorf("log %d of block %d has %d topics and %d bytes, which is not its event's shape", l.Index, l.BlockNumber, len(l.Topics), len(l.Data))
}
