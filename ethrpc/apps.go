package ethrpc

import (
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

// Anybody can register apps, so there may be hundreds of thousands. Their getter is run for the first ones along with all else,
// and for the others in portions, of which nothing is kept but the slots that they read.
const (
	firstApps  = 1000
	appsAtOnce = 16 * maxCalls
)

// firstAppCalls are the calls about the first apps of the Query.
func (c *proving) firstAppCalls() []kms.Call {
	if c.query.CodeOnly {
		return nil
	}
	c.appsDone = min(firstApps, len(c.query.Apps))
	return kms.AppCalls(c.query.Apps[:c.appsDone])
}

// appJobs returns the calls about the next apps, and whether the node is to be asked for them first, while guesses can be tried.
func (c *proving) appJobs() (out []*job, ask bool) {
	if c.query.CodeOnly || c.reading.Partial {
		return nil, false
	}
	next := c.query.Apps[c.appsDone:]
	next = next[:min(len(next), appsAtOnce)]
	c.appsDone += len(next)
	for _, call := range kms.AppCalls(next) {
		out = append(out, &job{Call: call, passing: true})
	}
	c.budget += maxRunTimePerCall * time.Duration(len(out))
	if ask = len(out) > 0 && !c.guess.tried && c.verified.Fresh(c.query.Contract); ask {
		c.waiting = out
	}
	return out, ask
}
