package simtest_test

import (
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
)

// remember takes over what an audit came to.
func (l *law) remember() {
	open := map[key]bool{}
	for _, t := range l.chain.Targets {
		at := common.HexToAddress(t.Contract)
		n := slices.Index(l.at, at)
		for _, f := range t.Findings {
			k := key{t.Contract, findingOf(f)}
			if l.look.Block != nil && f.State == audit.Confirmed {
				l.mem.block[k] = max(l.mem.block[k], l.look.Block.Number)
			}
			open[k] = l.mem.open[k] || f.State == audit.Confirmed && t.Assurance == audit.Proven
		}
		if l.wentBack() {
			continue
		}
		if t.Control != nil {
			l.mem.known[at] = true
			if c := l.claimOf(l.look); c != nil && n >= 0 && c.ChainID == chainID {
				rows, _, _ := c.about(at)
				for _, r := range rows {
					if r.id >= 0 && r.id < ids {
						l.mem.named[n][r.list][r.id] = true
					}
				}
			}
		}
		if t.Baseline == nil || n < 0 || n >= l.Contracts {
			continue
		}
		b := t.Baseline.Control
		hash := func(of string) string { // of the code that runs there
			if a := b.At(of); a != nil {
				return a.CodeHash
			}
			return ""
		}
		is := control{b.Owner, b.Implementation, hash(at.Hex()), hash(b.Implementation)}
		was, known := l.mem.baselines[at]
		if !known && !l.liar {
			was = l.truthOf(at, l.look).is.control
		}
		if is != was && (known || !l.liar) {
			l.fail("the baseline of %s is %+v, and was or is in truth %+v", at, is, was)
		}
		l.mem.baselines[at] = is
		l.rememberWatched(at, b)
	}
	maps.DeleteFunc(l.mem.block, func(k key, _ uint64) bool { _, stays := open[k]; return !stays })
	l.mem.open = open
}
