package audit

import (
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// memo is what the last audit of a chain asked and found. An audit that gets the same claim, of which the API's answer
// is the same to the byte, and the same proven state, need not judge again.
type memo struct {
	claim     string // its SHA-256; empty: nothing is remembered
	events    uint64 // the version of the events that the questions rest on
	questions ethrpc.Questions

	revision uint64 // of the state that was judged; 0: none
	targets  []*target
	until    time.Time // when an accepted difference runs out, or what events do not tell is asked for again; zero: never
}

// memoOf returns the chain's memo. Nobody else uses it while the chain is audited.
func (a *Auditor) memoOf(c ChainOptions) *memo {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.memos[c.Name]
	if m == nil {
		m = &memo{}
		a.memos[c.Name] = m
	}
	return m
}

// of tells whether the memo is about the claim and the events as they are.
func (m *memo) of(c ChainOptions, detail *kmsapi.OnChainDetail) bool {
	return m.claim != "" && m.claim == detail.Source.SHA256 && (c.Events == nil || m.events != 0 && m.events == c.Events.Version())
}

// questions are questionsOf, which are made anew only where claim or events are new.
func (a *Auditor) questions(c ChainOptions, detail *kmsapi.OnChainDetail) ethrpc.Questions {
	if detail == nil {
		return questionsOf(c, nil)
	}
	m := a.memoOf(c)
	if !m.of(c, detail) {
		*m = memo{claim: detail.Source.SHA256}
		if c.Events != nil {
			m.events = c.Events.Version()
		}
		m.questions = questionsOf(c, detail)
	}
	return m.questions
}

// recall returns the targets as they were judged before; nil: something is new.
func (a *Auditor) recall(p *pass) []*target {
	if !p.compared() || p.state.Revision == 0 || len(p.scans) > 0 || p.chain.KMS != nil {
		return nil
	}
	m := a.memoOf(p.chain)
	if m.revision != p.state.Revision || !m.of(p.chain, p.detail) || !m.until.IsZero() && !p.began.Before(m.until) {
		return nil
	}
	for _, t := range m.targets {
		if !t.baselineStands(p.chain) {
			return nil
		}
	}
	return m.targets
}

// untold is how long it takes until what events do not tell is asked for again.
const untold = 10 * time.Minute

// keep remembers the targets of a pass without drift. From now on nothing changes them, nor how long they stand.
func (a *Auditor) keep(p *pass) {
	m := a.memoOf(p.chain)
	if slices.ContainsFunc(p.targets, func(t *target) bool { return t.kept }) {
		return // they were recalled
	}
	if !p.compared() || p.state.Revision == 0 || len(p.scans) > 0 || p.chain.KMS != nil || !m.of(p.chain, p.detail) {
		return
	}
	m.revision, m.targets, m.until = p.state.Revision, p.targets, p.lasts()
	if again := p.began.Add(untold); p.untold && (m.until.IsZero() || again.Before(m.until)) {
		m.until = again
	}
	for _, t := range p.targets {
		t.kept = true
	}
}
