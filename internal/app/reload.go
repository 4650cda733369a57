package app

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
func (a *App) reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	s, err := a.reloaded()
	if err != nil {
		a.metrics.ConfigLoaded(false, time.Time{})
		a.opt.Log.Error("configuration not reloaded", event("config_reloaded"), zap.Bool("ok", false),
			zap.Strings("problems", strings.Split(err.Error(), "\n")), zap.Stringer("running", a.running.Load()))
		return err
	}
	a.running.Store(s)
	a.metrics.ConfigLoaded(true, s.loaded)
	a.opt.Log.Info("configuration reloaded", event("config_reloaded"), zap.Bool("ok", true), zap.Stringer("running", s))
	select {
	case a.again <- struct{}{}:
	default: // an audit that has not begun yet is due already
	}
	return nil
}

// reloaded checks the configuration whole.
func (a *App) reloaded() (*setup, error) {
	cfg, err := a.opt.Load()
	if err != nil {
		return nil, err
	}
	if ps := needsRestart(a.running.Load().cfg, cfg); ps != nil {
		return nil, ps
	}
	return a.setUp(cfg)
}

// needsRestart tells what of a new configuration takes a restart.
func needsRestart(old, now *config.Config) (ps config.Problems) {
	for _, k := range []struct {
		path string
		same bool
	}{
		{"state", old.State == now.State},
		{"web.listen", slices.Equal(old.Web.Listen, now.Web.Listen)},
		{"web.config_file", old.Web.ConfigFile == now.Web.ConfigFile},
	} {
		if !k.same {
			ps = append(ps, config.Problem{Path: k.path, Message: "was changed, which takes a restart"})
		}
	}
	return ps
}

// hangups reloads whenever the process is told to by a signal.
func (a *App) hangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.opt.Hangup:
			_ = a.reload() // it has logged the error
		}
	}
}

// webConfig tells HTTP of the configuration.
func (a *App) webConfig() web.Config {
	c := web.Config{Running: func() string { return a.running.Load().String() }}
	if a.opt.Load != nil {
		c.Reload = func() error {
			if !a.running.Load().cfg.Web.Reload {
				return web.ErrReloadOff
			}
			return a.reload()
		}
	}
	return c
}
