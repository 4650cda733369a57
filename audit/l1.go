package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// L1Intent is what the operator configured of the L1 that holds a chain's blocks.
type L1Intent struct {
	Chain        string         `json:"chain"` // L1's name
	ChainID      uint64         `json:"chain_id"`
	SystemConfig common.Address `json:"system_config"`
	Required     Trust          `json:"required,omitempty"` // of which L1 must have confirmed a block lately, else the verdict is unknown; empty: none
}

// L1Block is an audited block, and what L1 holds of it by now.
type L1Block struct {
	Number       uint64         `json:"number"`
	Hash         common.Hash    `json:"hash"`
	Time         time.Time      `json:"time"`     // as the provider gave it, until the block is confirmed
	Provider     string         `json:"provider"` // that served it
	At           time.Time      `json:"at"`       // of the audit that read it first; of one that L1 contradicts: since when
	Trust        Trust          `json:"trust"`
	Game         common.Address `json:"game,omitzero"`          // by which L1 holds it; zero: none
	Contradicted string         `json:"contradicted,omitempty"` // what L1 holds instead
	Ended        []OpenFinding  `json:"ended,omitempty"`        // findings that ended by what was read at the block
}

// L1Look is what L1 holds of audited blocks, by a block of L1 that the sync committee finalized.
type L1Look struct {
	Finalized     BeaconRoot     `json:"finalized"`
	Number        uint64         `json:"number"`
	Hash          common.Hash    `json:"hash"`
	Confirmations []Confirmation `json:"confirmations,omitempty"`
}

// Confirmation is what L1 newly holds of one audited block.
type Confirmation struct {
	Hash         common.Hash    `json:"hash"`  // of the audited block
	Trust        Trust          `json:"trust"` // TrustProviders: the game by which L1 held it does not count any more
	Game         common.Address `json:"game,omitzero"`
	Time         time.Time      `json:"time,omitzero"`          // of the block, by its header; zero: as before
	Contradicted string         `json:"contradicted,omitempty"` // what L1 holds instead
}

// How long a block is waited for. Where all is well, it is anchored within a week.
const (
	usuallyProposed = time.Hour
	maxUnproposed   = 24 * time.Hour
	maxUnanchored   = 14 * 24 * time.Hour
	maxL1Blocks     = 2000
	clockSkew       = 2 * time.Hour // that this machine's clock may be behind the chain's
)

// newestWithin is how old the newest block that L1 confirmed may be where a trust is required.
var newestWithin = map[Trust]time.Duration{TrustL1Proposed: 3 * time.Hour, TrustL1Anchored: 8 * 24 * time.Hour}

// Confirmed reports whether L1 holds the block.
func (b *L1Block) Confirmed() bool {
	return b.Contradicted == "" && TrustProviders.weakerThan(b.Trust)
}

func (b *L1Block) block() *Block {
	return &Block{Number: b.Number, Hash: b.Hash.Hex(), Time: b.Time, Trust: b.Trust}
}

// confirmedL1 returns the highest block that L1 confirmed with a trust or a stronger one, or nil.
func confirmedL1(all []L1Block, trust Trust) (newest *L1Block) {
	for i := range all {
		if b := &all[i]; b.Confirmed() && !b.Trust.weakerThan(trust) && (newest == nil || b.Number > newest.Number) {
			newest = b
		}
	}
	return newest
}

// UnderL1 lists the blocks of which L1 is to be asked: those that earlier audits left, and that of a look.
func (p *Prior) UnderL1(looks ...*Observation) []L1Block {
	out := slices.Clone(p.L1)
	for _, o := range looks {
		if o == nil || o.Block == nil {
			continue
		}
		hash, err := sanitize.ParseID(o.Block.Hash)
		if err == nil && find(out, func(b *L1Block) bool { return b.Hash == hash }) == nil {
			out = append(out, L1Block{Number: o.Block.Number, Hash: hash, Time: o.Block.Time, Provider: o.Provider, At: o.At, Trust: TrustProviders})
		}
	}
	return out
}

// Contradicted names the providers that served blocks which L1 contradicts.
func (p *Prior) Contradicted() (providers []string) {
	for _, b := range p.L1 {
		if b.Contradicted != "" {
			providers = append(providers, b.Provider)
		}
	}
	return providers
}

// byL1 goes on from what is remembered with what L1 holds by now. Findings that ended at a block which L1 contradicts, or did not
// confirm in time, are open again. No finding ends by what the chain says until L1 confirmed a block that was audited since then.
func (j *judgement) byL1(prior *Prior) *Prior {
	now, next := j.looks.First.At, prior.before(j.looks.First.At)
	blocks := next.UnderL1(&j.looks.First, j.looks.Second)
	if look := j.looks.First.L1; look != nil {
		for _, c := range look.Confirmations {
			if b := find(blocks, func(b *L1Block) bool { return b.Hash == c.Hash }); b != nil {
				b.take(c, now)
			}
		}
	}
	newest, anchored := confirmedL1(blocks, TrustL1Proposed), confirmedL1(blocks, TrustL1Anchored)
	next.L1, j.reopened = nil, map[findingKey]bool{}
	open := map[findingKey]bool{}
	for i := range next.Open {
		open[next.Open[i].key()] = true
	}
	for i := range blocks {
		b := &blocks[i]
		if newest != nil && b.Contradicted == "" && b.Trust == TrustProviders && !b.goesWith(newest) {
			b.contradict(fmt.Sprintf("block %d, %s, does not go with block %d, %s, which L1 holds", b.Number, b.Hash, newest.Number, newest.Hash), now)
		}
		if b.Trust == TrustL1Anchored {
			b.Ended = nil
		}
		age, crowded, wrong := now.Sub(b.At), len(blocks)-i > maxL1Blocks, b.Contradicted != ""
		late := crowded || age > maxUnanchored || !b.Confirmed() && age > maxUnproposed
		if wrong || late {
			for _, o := range b.Ended {
				if !open[o.key()] {
					o.Finding.Message = fmt.Sprintf("%s%s %d, which L1 does not hold", strings.SplitN(o.Finding.Message, overAt, 2)[0], overAt, b.Number)
					next.Open, open[o.key()], j.reopened[o.key()] = append(next.Open, o), true, true
				}
			}
			b.Ended = nil
		}
		// L1 had its chance if there was an audit in between.
		asked := slices.ContainsFunc(next.Blocks, func(a AuditedBlock) bool { return a.At.Sub(b.At) > usuallyProposed })
		stands := (wrong || late && !b.Confirmed() && asked) && (newest == nil || !newest.At.After(b.At))
		if wrong && stands {
			j.against = append(j.against, b.Contradicted)
		}
		superseded := b.Confirmed() && len(b.Ended) == 0 && slices.ContainsFunc(blocks, func(o L1Block) bool {
			return o.Confirmed() && o.Game == b.Game && o.Number > b.Number
		})
		over := crowded && j.unsure || !stands && (wrong || late || superseded || b.Trust == TrustL1Anchored)
		if !over || b == newest || b == anchored || j.looks.readAt(b.Hash) {
			next.L1 = append(next.L1, *b)
		}
		j.unsure = j.unsure || stands
	}
	if newest != nil {
		next.bound(newest)
	}
	return next
}

// goesWith reports whether the block can be of the chain of another one, which L1 holds. A chain counts up: of two blocks, the one
// that was made earlier has the lower number. Whoever invents a block invents its time.
func (b *L1Block) goesWith(held *L1Block) bool {
	return b.Number < held.Number || b.Number > held.Number && !held.Time.After(b.Time) && held.Time.Sub(b.At) <= clockSkew
}

const overAt = "; it was over at block"

// before returns a copy in which nothing is later than now, as it is if the clock was set back.
func (p *Prior) before(now time.Time) *Prior {
	next := *p
	next.L1, next.Open, next.Blocks = slices.Clone(p.L1), slices.Clone(p.Open), slices.Clone(p.Blocks)
	for i := range next.L1 {
		next.L1[i].At = earlier(next.L1[i].At, now)
	}
	for i := range next.Blocks {
		next.Blocks[i].At = earlier(next.Blocks[i].At, now)
	}
	for i := range next.Open {
		if at := earlier(next.Open[i].lastConfirmed(), now); !at.IsZero() {
			next.Open[i].Finding.LastConfirmedAt = &at
		}
	}
	return &next
}

func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

// bound lowers numbers above the newest block that L1 holds, where they were read before it was made: they are invented.
func (p *Prior) bound(newest *L1Block) {
	for i := range p.Blocks {
		if b := &p.Blocks[i]; newest.block().Follows(b.Number, b.At) {
			b.Number = min(b.Number, newest.Number)
		}
	}
	for i := range p.Open {
		if o := &p.Open[i]; newest.block().Follows(o.Block, o.lastConfirmed()) {
			o.Block = min(o.Block, newest.Number)
		}
	}
}

// readAt reports whether a look that may count read the block.
func (l *Looks) readAt(hash common.Hash) bool {
	return slices.ContainsFunc([]*Observation{&l.First, l.Second}, func(o *Observation) bool {
		return o != nil && o.Block != nil && o.Block.Hash == hash.Hex()
	})
}

// take notes what L1 newly holds of the block.
func (b *L1Block) take(c Confirmation, now time.Time) {
	if c.Contradicted != "" {
		b.contradict(c.Contradicted, now)
		return
	}
	b.Trust, b.Game, b.Contradicted = c.Trust, c.Game, ""
	if !c.Time.IsZero() {
		b.Time = c.Time
	}
}

func (b *L1Block) contradict(why string, now time.Time) {
	if b.Contradicted == "" {
		b.At = now
	}
	b.Contradicted = why
}

// contradictedByL1 finds what L1 contradicts. A contradiction stands until L1 is read again.
func (j *judgement) contradictedByL1() {
	if j.looks.First.L1 == nil || len(j.against) == 0 {
		return
	}
	message := j.against[0]
	if more := len(j.against) - 1; more > 0 {
		message += fmt.Sprintf(" (and %d more)", more)
	}
	for _, t := range j.targets {
		if !t.unexpected {
			t.find(BlockContradicted, "%s", message)
		}
	}
}

// requireL1 takes the verdict from an audit for which L1 lags behind what is required.
func (j *judgement) requireL1() {
	if j.intent.L1 == nil || j.intent.L1.Required == "" {
		return
	}
	need := j.intent.L1.Required
	within := newestWithin[need]
	if slices.ContainsFunc(j.prior.L1, func(b L1Block) bool {
		read := j.look.Block != nil && b.Hash.Hex() == j.look.Block.Hash // which may be of long ago
		return b.Confirmed() && !b.Trust.weakerThan(need) && (read || j.looks.First.At.Sub(b.Time) <= within)
	}) {
		return
	}
	for _, t := range j.targets {
		t.reason("anchor.required: no audited block of the last %.0f hours is %s", within.Hours(), need)
	}
}

// underL1 remembers the audited blocks for the next audit, with the findings that ended at the one that was read. A finding is kept
// once: with the block at which it ended last.
func (j *judgement) underL1(open, ended []OpenFinding) []L1Block {
	if j.intent.L1 == nil {
		return nil
	}
	goesOn := map[findingKey]bool{}
	for _, o := range slices.Concat(open, ended) {
		goesOn[o.key()] = true
	}
	for i := range j.prior.L1 {
		b := &j.prior.L1[i]
		b.Ended = slices.DeleteFunc(slices.Clone(b.Ended), func(o OpenFinding) bool { return goesOn[o.key()] })
		if j.look.Block != nil && b.Hash.Hex() == j.look.Block.Hash && b.Trust != TrustL1Anchored {
			b.Ended = append(b.Ended, ended...)
		}
	}
	return j.prior.L1
}

// anchoredThrough returns the newest block that somebody beside the providers vouches for, and the newest that L1 anchored. Either
// may be nil.
func (j *judgement) anchoredThrough() (newest, final *Anchored) {
	if j.intent.L1 == nil {
		return j.look.Anchored, nil
	}
	of := func(trust Trust) *Anchored {
		if b := confirmedL1(j.prior.L1, trust); b != nil {
			return &Anchored{b.Number, b.Hash.Hex(), b.Time, b.Trust}
		}
		return nil
	}
	return of(TrustL1Proposed), of(TrustL1Anchored)
}
