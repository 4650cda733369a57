package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// apiVersions are the values of X-Phala-Version that the API knows, the oldest first.
var apiVersions = []string{"2025-10-28", "2026-01-21", "2026-05-22", "2026-06-23"}

// resolver turns the mirror of a file into a Config.
type resolver struct {
	*doc
	env Env
}

func resolve(d *doc, f file, env Env) (*Config, error) {
	r := resolver{d, env}
	discover := r.discovers(f)
	if discover {
		f.Chains = defaults().Chains
	}
	cfg := &Config{
		Schedule:     f.Schedule,
		Timeout:      r.positive("timeout", f.Timeout),
		ConfirmDelay: r.notNegative("confirm_delay", f.ConfirmDelay),
		PendingMax:   r.notNegative("pending_max", f.PendingMax),
		State:        r.state(f.State),
		Evidence:     r.evidence(f.Evidence),
		API:          r.api(f.API),
		Chains:       r.chains(f.Chains),
		Discover:     discover,
		CrossChecks:  f.CrossChecks,
		Accept:       r.accept(f.Accept, f.Chains),
		Web:          r.web(f.Web),
		Heartbeat:    r.heartbeat(f.Heartbeat),
	}
	cfg.Secrets = d.secrets
	r.schedule(cfg, f.Timezone)
	r.confirm(cfg)
	if err := d.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

func (r resolver) schedule(cfg *Config, zone string) {
	var err error
	if cfg.Timezone, err = time.LoadLocation(zone); err != nil {
		r.add("timezone", "%s is not a time zone such as UTC or Europe/Berlin", sanitize.Quote(zone))
	}
	if cfg.Cron, err = ParseSchedule(cfg.Schedule, cfg.Timezone); err != nil {
		r.add("schedule", "%s", err)
	}
}

// confirm checks that the second pass fits into an audit, and blames what the file gives.
func (r resolver) confirm(cfg *Config) {
	switch {
	case cfg.ConfirmDelay < cfg.Timeout || cfg.Timeout <= 0:
	case r.given("confirm_delay"):
		r.add("confirm_delay", "%s must be shorter than timeout, which is %s", cfg.ConfirmDelay, cfg.Timeout)
	default:
		r.add("timeout", "%s must be longer than confirm_delay, which is %s", cfg.Timeout, cfg.ConfirmDelay)
	}
}

func (r resolver) positive(path string, d duration) time.Duration {
	if d <= 0 {
		r.add(path, "%s must be more than zero", time.Duration(d))
	}
	return time.Duration(d)
}

func (r resolver) notNegative(path string, d duration) time.Duration {
	if d < 0 {
		r.add(path, "%s must not be negative", time.Duration(d))
	}
	return time.Duration(d)
}

func (r resolver) api(f fileAPI) API {
	if msg := checkURL(f.BaseURL); msg != "" {
		r.add("api.base_url", "%s", msg)
	} else if u, _ := url.Parse(f.BaseURL); u.User != nil || strings.ContainsAny(f.BaseURL, "?#") {
		r.add("api.base_url", "must not have a user, a password, a query or a fragment: it is shown, and paths are added to it")
	}
	if !slices.Contains(apiVersions, f.Version) {
		r.add("api.version", "must be one of %s", strings.Join(apiVersions, ", "))
	}
	return API{
		BaseURL: strings.TrimRight(f.BaseURL, "/"),
		Version: f.Version,
		Timeout: r.positive("api.timeout", f.Timeout),
		Key:     r.apiKey(f),
	}
}

// checkURL returns what is wrong with a URL of an HTTP endpoint, without any part of it.
func checkURL(s string) string {
	if strings.Contains(s, "${") {
		return "variables are not expanded here: give the whole value"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "must be a URL that begins with http:// or https://"
	case u.Hostname() == "":
		return "the URL has no host"
	}
	return ""
}

func (r resolver) web(f fileWeb) Web {
	if len(f.Listen) == 0 {
		r.add("web.listen", "must have at least one address such as :10726")
	}
	seen := map[string]bool{}
	for i, addr := range f.Listen {
		at := fmt.Sprintf("web.listen[%d]", i)
		_, port, err := net.SplitHostPort(addr)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		switch {
		case err != nil:
			r.add(at, "%s is not an address such as :10726 or 127.0.0.1:10726", sanitize.Quote(addr))
		case seen[addr]:
			r.add(at, "%s is listed twice", addr)
		}
		seen[addr] = true
	}
	w := Web{Listen: f.Listen, Reload: f.Reload}
	if f.ConfigFile != "" {
		w.ConfigFile = r.abs(f.ConfigFile)
		if _, err := readFile(w.ConfigFile, maxSize); err != nil {
			r.add("web.config_file", "reading %s: %s", sanitize.Quote(f.ConfigFile), err)
		}
	}
	return w
}

// The values of heartbeat.on.
const (
	heartbeatCompleted  = "completed"
	heartbeatConsistent = "consistent"
)

func (r resolver) heartbeat(f fileHeartbeat) Heartbeat {
	if !r.given("heartbeat") || r.bad("heartbeat") {
		return Heartbeat{}
	}
	if f.On != heartbeatCompleted && f.On != heartbeatConsistent {
		r.add("heartbeat.on", "must be %s or %s", heartbeatCompleted, heartbeatConsistent)
	}
	return Heartbeat{sanitize.NewSecret(r.url("heartbeat", f.URL, f.URLEnv, f.URLFile)), f.On == heartbeatConsistent}
}
