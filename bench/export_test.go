package main

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// What the tests reach.
var (
	ParseSize  = parseSize
	NewProxy   = newProxy
	ReadReport = readReport
	ReadLines  = readLines
	NewLedger  = newLedger
	MainCall   = mainCall
)

type (
	Entry  = entry
	Ledger = ledger
)

func (p *proxy) Counts() (requests, bytes int64) {
	t := p.traffic()
	return t.requests, t.bytes
}

func (l *ledger) Write(dir string) error        { return l.write(dir, nil) }
func (l *ledger) Contracts() []common.Address   { return l.contracts }
func (l *ledger) Settled() []common.Hash        { return l.settled }
func (s size) EntriesOf(c int) []Entry          { return s.entriesOf(c) }
func (e entry) Says() (common.Hash, bool, bool) { return e.id, e.device, e.allowed }

// Toggled is the entry of the first contract that the last blocks change.
const Toggled = toggled

// Figures are the runs of a contender, for Goals.
type Figures struct {
	Contender        string
	Contracts, Count int
	Delay            time.Duration
	Took             []time.Duration
}

// Goals holds figures against the goals, and returns the verdict of the one that begins with text.
func Goals(text string, figures ...Figures) (shown, verdict string) {
	var r results
	for _, f := range figures {
		s := sample{contender: f.Contender, size: size{f.Contracts, f.Count, 1}, delay: f.Delay}
		for _, t := range f.Took {
			s.costs = append(s.costs, cost{wall: t})
		}
		r.samples = append(r.samples, s)
	}
	for _, g := range r.held() {
		if g.text[:min(len(text), len(g.text))] == text {
			return g.shown, g.verdict()
		}
	}
	return "", "no such goal"
}
