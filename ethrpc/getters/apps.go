package getters

import (
	"cmp"
	"maps"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Anybody can register apps, so there may be hundreds of thousands. Their getter runs for the first ones together with all other
// calls, and for the rest in portions that keep only the slots that were read. As long as those slots and the code are unchanged,
// the getter would read the same slots again. So it then runs only for new apps.
const (
	firstApps  = 1000
	appsAtOnce = 16_000
)

// appRuns tracks the runs of the apps' getter.
type appRuns struct {
	todo   []common.Address
	first  int     // how many of them run together with all other calls
	done   int     // how many have a job
	before *Proven // has the runs for all other apps, until settleApps; may be nil
	failed bool    // a run failed, so its slots are unknown
	err    error   // why the getter is not trusted
}

// plan picks the apps that the getter runs for. before has runs for every app of its Query; it may be nil.
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

// firstAppCalls returns the calls about the first apps.
func (c *Run) firstAppCalls() []kms.Call {
	if c.Query.CodeOnly {
		return nil
	}
	c.apps.first = min(firstApps, len(c.apps.todo))
	c.apps.done = c.apps.first
	return kms.AppCalls(c.apps.todo[:c.apps.first])
}

// appJobs returns the jobs for the next portion of apps. If ask is true, the node should be asked for their answers first,
// because a guess is still possible.
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

// appsLeft reports whether appJobs has more jobs, as it does after a wrong guess about apps.
func (c *Run) appsLeft() bool {
	return !c.Query.CodeOnly && !c.Reading.Partial && c.apps.done < len(c.apps.todo)
}

// settleApps reuses the earlier runs if they would read the same slots again. If not, the Reading becomes partial where that is
// allowed; otherwise the getter runs for every app.
func (c *Run) settleApps() {
	before := c.apps.before
	c.apps.before = nil
	switch {
	case c.State.CarryOver(c.Query.Contract) && before.appsStandIn(c.State):
		read := maps.Clone(before.appSlots)
		maps.Copy(read, c.appSlots)
		c.appSlots = read
		maps.Copy(c.Accounts, before.Accounts) // the reused slots depend on these accounts
	case c.partial:
		c.Reading.Partial = true
	default:
		c.apps.todo, c.apps.first, c.apps.done = c.Query.Apps, 0, 0
	}
}

// appsStandIn reports whether the apps' getter would read the same slots in w.
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

// appFailed records that the getter could not be run for one app.
func (r *appRuns) appFailed(err error) {
	r.failed = true
	r.err = cmp.Or(r.err, unbelievable(err))
}

// ranForAll reports whether the getter ran for every app.
func (r *appRuns) ranForAll() bool { return r.done == len(r.todo) && r.before == nil && !r.failed }
