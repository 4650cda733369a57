package simtest_test

import (
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
)

// remember takes over the results of an audit.
func (l *law) remember() {
	open := map[key]bool{}
	l.mem.lied = l.mem.lied || l.liar
	for _, t := range l.chain.Targets {
		at := common.HexToAddress(t.Contract)
		n := slices.Index(l.at, at)
		for _, f := range t.Findings {
			k := key{t.Contract, findingOf(f)}
			if l.look.Block != nil && f.State == audit.Confirmed {
				l.mem.signed[k] = l.mem.signed[k] || l.signed()
				l.mem.block[k] = max(l.mem.block[k], l.look.Block.Number)
			}
			open[k] = l.mem.open[k] || f.State == audit.Confirmed && t.Assurance == audit.Proven
		}
		if l.wentBack() {
			continue
		}
		if t.Control != nil {
			l.mem.known[at] = true
			if is := reported(*t.Control); n >= 0 && n < l.Contracts && !l.liar {
				if truly := l.truthOf(at, l.look).is.control; !is.within(truly.runs, is.complete) || is.complete && len(is.runs) != len(truly.runs) {
					l.fail("the code that runs for %s is %+v, and in truth %+v", at, is, truly)
				}
			}
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
		l.rememberControl(at, b)
		l.rememberWatched(at, b)
	}
	maps.DeleteFunc(l.mem.block, func(k key, _ uint64) bool { _, stays := open[k]; return !stays })
	maps.DeleteFunc(l.mem.signed, func(k key, _ bool) bool { _, stays := open[k]; return !stays })
	l.mem.open = open
}
