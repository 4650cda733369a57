package daemon

import "github.com/kms-auditor/kms-auditor/internal/web"

func (d *Daemon) plan() web.Plan {
	cfg := d.running.Load().cfg
	return web.Plan{Schedule: cfg.Cron, Timeout: cfg.Timeout}
}
