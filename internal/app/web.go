package app

import (
	"github.com/kms-auditor/kms-auditor/internal/past"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

// past is what the daemon remembers of the lists.
func (a *App) past() *past.Past {
	p := &past.Past{Store: a.store, Names: map[uint64]string{}}
	for _, c := range a.running.Load().cfg.Chains {
		p.Names[c.ChainID] = c.Name
	}
	if r := a.last.Load(); r != nil {
		p.Instead(r)
	}
	return p
}

func (a *App) plan() web.Plan {
	cfg := a.running.Load().cfg
	return web.Plan{Schedule: cfg.Cron, Timeout: cfg.Timeout}
}
