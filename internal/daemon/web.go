package daemon

import (
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

// history is what the daemon remembers of the lists.
func (d *Daemon) history() *state.State { return d.state }

func (d *Daemon) plan() web.Plan {
	cfg := d.running.Load().cfg
	return web.Plan{Schedule: cfg.Cron, Timeout: cfg.Timeout}
}
