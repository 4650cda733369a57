package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// L1Intent is what the operator configured about the L1 of a chain.
type L1Intent struct {
	Chain        string         `json:"chain"` // name of L1
	ChainID      uint64         `json:"chain_id"`
	SystemConfig common.Address `json:"system_config"`
	Required     Trust          `json:"required,omitempty"` // the verdict is unknown unless L1 lately confirmed a block with this trust; optional
}

// L1Block is an audited block and what L1 says about it.
type L1Block struct {
	Number       uint64         `json:"number"`
	Hash         common.Hash    `json:"hash"`
	Time         time.Time      `json:"time"`     // from the provider until the block is confirmed, then from the header
	Provider     string         `json:"provider"` // that served the block
	At           time.Time      `json:"at"`       // of the audit that first read it, or since when L1 contradicts it
	Trust        Trust          `json:"trust"`
	Game         common.Address `json:"game,omitzero"`          // that confirms it; zero if none does
	Contradicted string         `json:"contradicted,omitempty"` // how L1 contradicts it
	Ended        []OpenFinding  `json:"ended,omitempty"`        // findings that ended because of answers at the block
}

// L1Look is what L1 says about audited blocks, read at a block of L1 that the sync committee finalized.
type L1Look struct {
	Finalized     BeaconRoot     `json:"finalized"`
	Number        uint64         `json:"number"`
	Hash          common.Hash    `json:"hash"`
	Confirmations []Confirmation `json:"confirmations,omitempty"`
}

// Confirmation is news from L1 about one audited block.
type Confirmation struct {
	Hash         common.Hash    `json:"hash"`  // of the audited block
	Trust        Trust          `json:"trust"` // TrustProviders if the game that confirmed it no longer counts
	Game         common.Address `json:"game,omitzero"`
	Time         time.Time      `json:"time,omitzero"`          // of the block, from its header; zero if unchanged
	Contradicted string         `json:"contradicted,omitempty"` // how L1 contradicts the block
}

// How long to wait for L1 to confirm a block. L1 usually anchors one within a week.
const (
	usuallyProposed = time.Hour
	maxUnproposed   = 24 * time.Hour
	maxUnanchored   = 14 * 24 * time.Hour
	maxL1Blocks     = 2000
	clockSkew       = 2 * time.Hour // how far this machine's clock may be behind the chain's
)

// newestWithin is how old the newest confirmed block may be, by required trust.
var newestWithin = map[Trust]time.Duration{TrustL1Proposed: 3 * time.Hour, TrustL1Anchored: 8 * 24 * time.Hour}

// Confirmed reports whether L1 confirms the block.
func (b *L1Block) Confirmed() bool {
	return b.Contradicted == "" && TrustProviders.weakerThan(b.Trust)
}

func (b *L1Block) block() *Block {
	return &Block{Number: b.Number, Hash: b.Hash.Hex(), Time: b.Time, Trust: b.Trust}
}

// confirmedL1 returns the highest block that L1 confirmed with at least the given trust, or nil.
func confirmedL1(all []L1Block, trust Trust) (newest *L1Block) {
	for i := range all {
		if b := &all[i]; b.Confirmed() && !b.Trust.weakerThan(trust) && (newest == nil || b.Number > newest.Number) {
			newest = b
		}
	}
	return newest
}

// UnderL1 lists the blocks to look up on L1: those of earlier audits, and those of the looks.
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

// Contradicted lists the providers that served blocks which L1 contradicts.
func (p *Prior) Contradicted() (providers []string) {
	for _, b := range p.L1 {
		if b.Contradicted != "" {
			providers = append(providers, b.Provider)
		}
	}
	return providers
}

// byL1 applies news from L1 to the Prior. It reopens findings that ended at a block that L1 contradicts or did not confirm in
// time. After that, the chain's answers end no finding until L1 confirms a block that was audited later.
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
			b.contradict(fmt.Sprintf("block %d, %s, cannot be on the same chain as block %d, %s, which L1 confirms", b.Number, b.Hash, newest.Number, newest.Hash), now)
		}
		if b.Trust == TrustL1Anchored {
			b.Ended = nil
		}
		age, crowded, wrong := now.Sub(b.At), len(blocks)-i > maxL1Blocks, b.Contradicted != ""
		late := crowded || age > maxUnanchored || !b.Confirmed() && age > maxUnproposed
		if wrong || late {
			for _, o := range b.Ended {
				if !open[o.key()] {
					o.Finding.Message = fmt.Sprintf("%s%s %d, which L1 does not confirm", strings.SplitN(o.Finding.Message, overAt, 2)[0], overAt, b.Number)
					next.Open, open[o.key()], j.reopened[o.key()] = append(next.Open, o), true, true
				}
			}
			b.Ended = nil
		}
		// L1 is late only if an audit could have read it in between.
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

// goesWith reports whether the block can be on the same chain as held, a block that L1 confirms. Block numbers increase with
// time. The time of a block that is not confirmed may be invented.
func (b *L1Block) goesWith(held *L1Block) bool {
	return b.Number < held.Number || b.Number > held.Number && !held.Time.After(b.Time) && held.Time.Sub(b.At) <= clockSkew
}

const overAt = "; it was resolved at block"

// before returns a copy in which no time is later than now. Later times occur if the clock was set back.
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

// bound lowers block numbers above the newest block that L1 confirms if they were read before that block was made: they were
// invented.
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

// readAt reports whether the first or second look read the block.
func (l *Looks) readAt(hash common.Hash) bool {
	return slices.ContainsFunc([]*Observation{&l.First, l.Second}, func(o *Observation) bool {
		return o != nil && o.Block != nil && o.Block.Hash == hash.Hex()
	})
}

// take applies news from L1 to the block.
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

// contradictedByL1 adds findings for blocks that L1 contradicts. Without news from L1, earlier ones stay open.
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

// requireL1 adds a reason if L1 has not lately confirmed a block with the required trust.
func (j *judgement) requireL1() {
	if j.intent.L1 == nil || j.intent.L1.Required == "" {
		return
	}
	need := j.intent.L1.Required
	within := newestWithin[need]
	if slices.ContainsFunc(j.prior.L1, func(b L1Block) bool {
		read := j.look.Block != nil && b.Hash.Hex() == j.look.Block.Hash // a pinned block may be old
		return b.Confirmed() && !b.Trust.weakerThan(need) && (read || j.looks.First.At.Sub(b.Time) <= within)
	}) {
		return
	}
	for _, t := range j.targets {
		t.reason("anchor.required: no audited block of the last %.0f hours is %s", within.Hours(), need)
	}
}

// underL1 returns the audited blocks for the next audit, each with the findings that ended at it. A finding is kept only with
// the block at which it ended last.
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

// anchoredThrough returns the newest block that the anchor or L1 vouches for, and the newest that L1 anchored. Either may be nil.
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
