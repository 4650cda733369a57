package getters

import (
	"cmp"
	"maps"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Anybody can register apps, so there may be hundreds of thousands. Their getter is run for the first ones along with all else,
// and for the others in portions, of which nothing is kept but the slots that they read. While those slots and the code stay as
// they are, the getter would read the same again. So it is run for new apps alone.
const (
	firstApps  = 1000
	appsAtOnce = 16_000
)

// appRuns are the runs of the getter of apps.
type appRuns struct {
	todo   []common.Address
	first  int     // how many of them run along with all else
	done   int     // how many have had their jobs
	before *Proven // has the runs for all other apps, which are not settled yet; may be nil
	failed bool    // a run did not end, and what it reads is not known
	err    error   // why the getter is not to be believed
}

// plan picks the apps that the getter runs for. before has earlier runs for every app of its Query, or is nil.
func (r *appRuns) plan(q *kms.Query, before *Proven) {
	if r.todo = q.Apps; before == nil {
		return
	}
	known := make(map[common.Address]bool, len(before.Query.Apps))
	for _, a := range before.Query.Apps {
		known[a] = true
	}
	var added []common.Address
	for _, a := range q.Apps {
		if !known[a] {
			added = append(added, a)
		}
	}
	if len(added)+len(known) == len(q.Apps) {
		r.todo, r.before = added, before
	}
}

// firstAppCalls are the calls about the first apps.
func (c *Run) firstAppCalls() []kms.Call {
	if c.Query.CodeOnly {
		return nil
	}
	c.apps.first = min(firstApps, len(c.apps.todo))
	c.apps.done = c.apps.first
	return kms.AppCalls(c.apps.todo[:c.apps.first])
}

// appJobs returns the calls about the next apps, and whether the node is to be asked for them first, while guesses can be tried.
func (c *Run) appJobs() (out []*Job, ask bool) {
	r := &c.apps
	if c.Query.CodeOnly || c.Reading.Partial {
		return nil, false
	}
	if r.done == len(r.todo) && r.before != nil {
		c.settleApps()
	}
	next := r.todo[r.done:]
	next = next[:min(len(next), appsAtOnce)]
	r.done += len(next)
	for _, call := range kms.AppCalls(next) {
		out = append(out, &Job{Call: call, app: true, passing: true})
	}
	c.budget += maxRunTimePerCall * time.Duration(len(out))
	if ask = len(out) > 0 && !c.guess.tried && c.State.Fresh(c.Query.Contract); ask {
		c.Waiting = out
	}
	return out, ask
}

// appsLeft reports whether appJobs has more: a guess that rested on apps alone was wrong.
func (c *Run) appsLeft() bool {
	return !c.Query.CodeOnly && !c.Reading.Partial && c.apps.done < len(c.apps.todo)
}

// settleApps reuses the earlier runs if they would read the same again. If not, the getter runs for every app, or the Reading is
// marked as partial where that is allowed.
func (c *Run) settleApps() {
	before := c.apps.before
	c.apps.before = nil
	switch {
	case c.State.CarryOver(c.Query.Contract) && before.appsStandIn(c.State):
		read := maps.Clone(before.appSlots)
		maps.Copy(read, c.appSlots)
		c.appSlots = read
		maps.Copy(c.Accounts, before.Accounts) // what is read, and by whose code, rests on these
	case c.partial:
		c.Reading.Partial = true
	default:
		c.apps.todo, c.apps.first, c.apps.done = c.Query.Apps, 0, 0
	}
}

// appsStandIn reports whether the getter of apps would read what it read.
func (m *Proven) appsStandIn(w *proof.VerifiedState) bool {
	if !m.UnchangedIn(w, false) {
		return false
	}
	for s := range m.appSlots {
		was, _ := m.State.Value(s)
		if is, known := w.Value(s); !known || is != was {
			return false
		}
	}
	return true
}

// appFailed notes that the getter of apps could not be run for one.
func (r *appRuns) appFailed(err error) {
	r.failed = true
	r.err = cmp.Or(r.err, unbelievable(err))
}

// ranForAll reports whether it is known what the getter reads for every app.
func (r *appRuns) ranForAll() bool { return r.done == len(r.todo) && r.before == nil && !r.failed }
