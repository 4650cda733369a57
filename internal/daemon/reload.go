package daemon

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

// reload reads the configuration again. It either makes all of it the one that the next audit runs under, and has that
// audit begin as soon as none is under way, or it changes nothing. It logs and counts which.
func (d *Daemon) reload() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	s, err := d.reloaded()
	if err != nil {
		d.metrics.ConfigLoaded(false, time.Time{})
		d.opt.Log.Error("configuration not reloaded", event("config_reloaded"), zap.Bool("ok", false),
			zap.Strings("problems", strings.Split(err.Error(), "\n")), zap.Stringer("running", d.running.Load()))
		return err
	}
	d.running.Store(s)
	d.metrics.ConfigLoaded(true, s.loaded)
	d.opt.Log.Info("configuration reloaded", event("config_reloaded"), zap.Bool("ok", true), zap.Stringer("running", s))
	select {
	case d.again <- struct{}{}:
	default: // an audit that has not begun yet is due already
	}
	return nil
}

// reloaded checks the configuration whole.
func (d *Daemon) reloaded() (*runtime, error) {
	cfg, err := d.opt.Load()
	if err != nil {
		return nil, err
	}
	if ps := needsRestart(d.running.Load().cfg, cfg); ps != nil {
		return nil, ps
	}
	return d.newRuntime(cfg)
}

// needsRestart tells what of a new configuration takes a restart.
func needsRestart(old, now *config.Config) (ps config.Problems) {
	check := func(path string, same bool) {
		if !same {
			ps = append(ps, config.Problem{Path: path, Message: "was changed, which takes a restart"})
		}
	}
	check("state", old.State == now.State)
	check("web.listen", slices.Equal(old.Web.Listen, now.Web.Listen))
	check("web.config_file", old.Web.ConfigFile == now.Web.ConfigFile)
	return ps
}

// hangups reloads whenever the process is told to by a signal.
func (d *Daemon) hangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.opt.Hangup:
			_ = d.reload() // it has logged the error
		}
	}
}

// reloadByHTTP is reload for whoever asks over HTTP, where that is on.
func (d *Daemon) reloadByHTTP() error {
	if d.opt.Load == nil || !d.running.Load().cfg.Web.Reload {
		return web.ErrReloadOff
	}
	return d.reload()
}
