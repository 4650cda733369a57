package config

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/robfig/cron/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// apiVersions are the API's values of X-Phala-Version, the oldest first.
var apiVersions = []string{"2025-10-28", "2026-01-21", "2026-05-22", "2026-06-23"}

const maxEvidence = 100_000

// resolve checks the decoded configuration, and reads the files and variables that it names.
func (d *doc) resolve(cfg *Config) (*Config, error) {
	// With cross_checks and without chains, the API's list of KMS decides which chains are audited.
	if cfg.Discover = cfg.CrossChecks && len(cfg.Chains) == 0 && !d.bad("chains"); cfg.Discover {
		cfg.Chains = defaults().Chains
	}
	d.positive("timeout", cfg.Timeout)
	d.check(cfg.ConfirmDelay >= 0, "confirm_delay", "%s must not be negative", cfg.ConfirmDelay)
	d.check(cfg.PendingMax >= 0, "pending_max", "%s must not be negative", cfg.PendingMax)
	cfg.State = d.state(cfg.State)
	d.evidence(&cfg.Evidence)
	d.api(&cfg.API)
	d.chains(cfg)
	d.accept(cfg)
	d.web(&cfg.Web)
	if d.given("heartbeat") && !d.bad("heartbeat") {
		on := cfg.Heartbeat.On
		d.check(on == "completed" || on == "consistent", "heartbeat.on", "must be completed or consistent")
		d.secretURL("heartbeat", &cfg.Heartbeat.URL)
	}
	cfg.Files = d.files
	zone, err := time.LoadLocation(cfg.Timezone)
	d.check(err == nil, "timezone", "%s is not a time zone such as UTC or Europe/Berlin", sanitize.Quote(cfg.Timezone))
	cfg.Timezone = zone.String() // UTC if it is empty
	cfg.Cron, err = ParseSchedule(cfg.Schedule, zone)
	d.check(err == nil, "schedule", "%v", err)
	// The second look must fit into an audit. The problem is at the key that the file has.
	switch {
	case cfg.ConfirmDelay < cfg.Timeout || cfg.Timeout <= 0:
	case d.given("confirm_delay"):
		d.add("confirm_delay", "%s must be shorter than timeout, which is %s", cfg.ConfirmDelay, cfg.Timeout)
	default:
		d.add("timeout", "%s must be longer than confirm_delay, which is %s", cfg.Timeout, cfg.ConfirmDelay)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

func (d *doc) positive(path string, v time.Duration) {
	d.check(v > 0, path, "%s must be more than zero", v)
}

func (d *doc) upTo(limit int, path string, n int) {
	d.check(n >= 1 && n <= limit, path, "must be from 1 to %d", limit)
}

// elements yields the elements of a list that could be read, each with its path.
func elements[T any](d *doc, path string, list []T) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		for i := range list {
			if at := fmt.Sprintf("%s[%d]", path, i); !d.bad(at) && !yield(at, &list[i]) {
				return
			}
		}
	}
}

// unique adds a problem if an earlier element of the list has the value. message has a verb for the value.
func (d *doc) unique(path string, v any, message string) {
	of := [2]any{path[:strings.LastIndex(path, "[")], v}
	if !d.bad(path) {
		d.check(!d.values[of], path, message, v)
		d.values[of] = true
	}
}

// state checks the path of the state file. The file need not exist, but its folder must.
func (d *doc) state(name string) string {
	if name == "" {
		return ""
	}
	path := d.abs(name)
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		d.add("state", "%s is a folder: give a file in it", sanitize.Quote(name))
	case err == nil && !info.Mode().IsRegular():
		d.add("state", "%s is not a regular file", sanitize.Quote(name))
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			d.add("state", "finding the folder of %s: %s", sanitize.Quote(name), cause(err))
		}
	case err != nil:
		d.add("state", "finding %s: %s", sanitize.Quote(name), cause(err))
	}
	return path
}

func (d *doc) evidence(e *Evidence) {
	d.upTo(maxEvidence, "evidence.keep_changes", e.KeepChanges)
	d.upTo(maxEvidence, "evidence.keep_last", e.KeepLast)
	name := e.Dir
	if name == "" {
		return
	}
	e.Dir = d.abs(name)
	switch info, err := os.Stat(e.Dir); {
	case err != nil:
		d.add("evidence.dir", "finding the folder %s: %s", sanitize.Quote(name), cause(err))
	case !info.IsDir():
		d.add("evidence.dir", "%s is not a folder", sanitize.Quote(name))
	}
}

// abs returns the path of a file, relative to the configuration's folder.
func (d *doc) abs(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.env.Dir, name)
}

func (d *doc) api(a *API) {
	d.publicURL("api.base_url", &a.BaseURL)
	d.check(slices.Contains(apiVersions, a.Version), "api.version", "must be one of %s", strings.Join(apiVersions, ", "))
	d.positive("api.timeout", a.Timeout)
	d.apiKey(&a.Key)
}

// publicURL checks a URL that is shown and that paths are added to, and drops its final slash.
func (d *doc) publicURL(path string, s *string) {
	if err := checkURL(*s); err != nil {
		d.add(path, "%s", err)
	} else if u, _ := url.Parse(*s); u.User != nil || strings.ContainsAny(*s, "?#") {
		d.add(path, "must not have a user, a password, a query or a fragment: it is shown, and paths are added to it")
	}
	*s = strings.TrimRight(*s, "/")
}

func (d *doc) web(w *Web) {
	if w.ExternalURL != "" {
		d.publicURL("web.external_url", &w.ExternalURL)
	}
	d.check(len(w.Listen) > 0, "web.listen", "must have at least one address such as :10726")
	for at, addr := range elements(d, "web.listen", w.Listen) {
		_, port, err := net.SplitHostPort(*addr)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		d.check(err == nil, at, "%s is not an address such as :10726 or 127.0.0.1:10726", sanitize.Quote(*addr))
		d.unique(at, *addr, "%s is listed twice")
	}
	if name := w.ConfigFile; name != "" {
		w.ConfigFile = d.abs(name)
		_, err := readFile(w.ConfigFile, maxSize)
		d.check(err == nil, "web.config_file", "reading %s: %v", sanitize.Quote(name), err)
	}
}

var (
	chainName    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	providerName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	publicKey    = regexp.MustCompile(`^([0-9a-f]{2})+$`)
)

const maxBatch = 1000

func (d *doc) chains(cfg *Config) {
	d.check(len(cfg.Chains) > 0, "chains", "is empty: there is nothing to audit (with cross_checks: true, the chains of the built-in default that the API's list of KMS names)")
	onlyL1 := func(c Chain) bool {
		isL1 := func(o Chain) bool { return o.Anchor != nil && o.Anchor.L1Name == c.Name }
		return c.Claims == NoClaims && len(c.Contracts) == 0 && slices.ContainsFunc(cfg.Chains, isL1)
	}
	for at, c := range elements(d, "chains", cfg.Chains) {
		d.check(chainName.MatchString(c.Name), at+".name",
			"must be the API's name for the chain: 1 to 64 characters of a-z, 0-9, _ and -, the first a letter or a digit")
		d.unique(at+".name", c.Name, "chain %s is listed twice")
		d.check(c.ChainID != 0, at+".chain_id", "must be given, such as 8453 for base or 1 for ethereum")
		d.upTo(maxBatch, at+".batch_size", c.BatchSize)
		d.check(len(c.Block) > 0, at+".block", "must have at least one block policy")
		if c.Explorer != "" {
			d.publicURL(at+".explorer", &c.Explorer)
		}
		d.providers(at+".providers", c.Providers, c.Agreement > 1)
		agreed := c.Agreement >= 1 && c.Agreement <= uint64(len(c.Providers))
		d.check(agreed || d.bad(at+".providers"), at+".agreement",
			"%d must be from 1 to the number of providers, which is %d", c.Agreement, len(c.Providers))
		d.check(c.Claims == FromAPI || c.Claims == NoClaims, at+".claims", "must be api or none")
		d.check(c.Claims != NoClaims || len(c.Contracts) > 0 || onlyL1(*c), at+".contracts", "must have at least one contract: with claims: none, no API lists any")
		d.contracts(at+".contracts", c.Contracts)
		if c.Anchor != nil && (c.Anchor.L1Name != "" || c.Anchor.SystemConfig != (common.Address{})) {
			d.l1(at+".anchor", c, cfg.Chains)
		} else if c.Anchor != nil {
			d.anchor(at+".anchor", c.Anchor, c.ChainID)
			d.check(c.Anchor.Required == "" || c.Anchor.Required == Required(audit.TrustConsensus), at+".anchor.required", "must be true or false: proposed and anchored are of an anchor with l1")
			signed := slices.ContainsFunc(c.Block, func(tag ethrpc.BlockTag) bool { return tag != ethrpc.Latest })
			d.check(signed, at+".anchor", "confirms no block with block: latest, which is newer than what the sync committee signed: use finalized or latest-N")
		}
	}
	all := slices.Clone(cfg.Chains) // an anchor's L1 points into what was
	cfg.Chains = slices.DeleteFunc(all, onlyL1)
}

func (d *doc) providers(path string, providers []ethrpc.Provider, apart bool) {
	d.check(len(providers) > 0, path, "must have at least one provider")
	endpoints := map[string]string{}
	for at, p := range elements(d, path, providers) {
		d.check(providerName.MatchString(p.Name), at+".name", "must be a name of 1 to 64 characters of A-Z, a-z, 0-9, dot, _ and -")
		d.unique(at+".name", p.Name, "provider %s is listed twice in this chain")
		d.check(p.RequestsPerSecond >= 0, at+".requests_per_second", "must not be negative (0: no limit)")
		d.secretURL(at, &p.URL)
		d.positive(at+".timeout", p.Timeout)
		if apart {
			d.apart(endpoints, at, p.URL.Reveal())
		}
	}
}

// apart checks that no earlier provider is the same endpoint, which would agree with itself. It shows no URL.
func (d *doc) apart(endpoints map[string]string, at, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return // that is a problem already
	}
	u.Host, u.Path, u.RawPath = strings.ToLower(u.Host), strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if first, twice := endpoints[u.String()]; twice {
		_, first, _ = strings.Cut(first, ".")
		d.add(at, "has the URL of %s: agreement needs different endpoints", first)
		return
	}
	endpoints[u.String()] = at
}

func (d *doc) contracts(path string, contracts []Contract) {
	for at, c := range elements(d, path, contracts) {
		d.check(d.given(at+".address"), at+".address", "must be given")
		d.unique(at+".address", c.Address, "contract %s is listed twice")
		d.explained(at+".explained_slots", c.Explained)
		d.ids(at+".policy.devices", c.Policy.Devices)
		d.ids(at+".policy.os_images", c.Policy.OSImages)
		d.ids(at+".policy.aggregated_mrs", c.Policy.AggregatedMRs)
		d.publicKeys(at+".policy.kms_pubkeys", c.Policy.KMSPubkeys)
		d.ids(at+".policy.code_hashes", c.Policy.CodeHashes)
		d.check(len(c.Policy.CodeHashes) > 0 || !d.given(at+".policy.code_hashes"), at+".policy.code_hashes", "must have at least one: some code always runs")
		gateway := at + ".policy.gateway_app_id"
		d.check(!d.given(gateway) || d.bad(gateway) || c.Policy.GatewayAppID != "", gateway, "must not be empty")
	}
}

// publicKeys checks the two keys, and normalizes them to the spelling of a report.
func (d *doc) publicKeys(path string, keys []string) {
	d.check(len(keys) == 2 || !d.given(path) || d.bad(path), path, "must be the two keys of kmsInfo(): k256, then CA")
	for at, key := range elements(d, path, keys) {
		*key = strings.TrimPrefix(strings.ToLower(*key), "0x")
		d.check(publicKey.MatchString(*key), at, "must be a public key in hex, with or without 0x")
	}
}

func (d *doc) explained(path string, slots []audit.ExplainedSlot) {
	for at, e := range elements(d, path, slots) {
		d.check(d.given(at+".slot"), at+".slot", "must be given")
		d.unique(at+".slot", e.Slot, "slot %s is listed twice in this contract")
		d.reason(at+".reason", e.Reason, "why the slot may be in use")
	}
}

func (d *doc) ids(path string, ids []common.Hash) {
	for at, id := range elements(d, path, ids) {
		d.unique(at, *id, "id %s is listed twice")
	}
}

// reason checks that a text is not empty, and not longer than a report shows.
func (d *doc) reason(path, s, why string) {
	d.check(strings.TrimSpace(s) != "", path, "must be given: the report shows %s", why)
	d.check(len(s) <= sanitize.MaxLen, path, "must be at most %d bytes long, and has %d", sanitize.MaxLen, len(s))
}

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// ParseSchedule reads five cron fields, a descriptor such as @hourly, or @every with a duration of whole seconds.
// Fields are in loc, or UTC if it is nil. A schedule that never fires is an error.
func ParseSchedule(spec string, loc *time.Location) (cron.Schedule, error) {
	if loc == nil {
		loc = time.UTC
	}
	spec = strings.TrimSpace(spec)
	// The library panics on a zone without a schedule.
	if strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=") {
		return nil, errors.New("a time zone inside the schedule is not allowed: set the key timezone instead")
	}
	if every, ok := strings.CutPrefix(spec, "@every"); ok {
		return parseEvery(strings.TrimSpace(every))
	}
	s, err := cronParser.Parse(spec)
	if err != nil {
		msg, _, _ := strings.Cut(err.Error(), ": strconv.")
		msg = sanitize.Plain(strings.Replace(msg, "failed to parse int from", "not a number:", 1))
		return nil, fmt.Errorf("%s is not five cron fields, a descriptor such as @hourly, or @every 5m: %s", sanitize.Quote(spec), msg)
	}
	z := zoned{s, loc}
	if z.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%s never fires", sanitize.Quote(spec))
	}
	return z, nil
}

func parseEvery(s string) (cron.Schedule, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("@every needs a duration such as 5m, not %s", sanitize.Quote(s))
	case d < time.Second || d%time.Second != 0:
		return nil, fmt.Errorf("@every %s must be whole seconds, at least 1s", d)
	}
	return cron.Every(d), nil
}

// zoned evaluates a schedule in loc. The parser leaves the fields in time.Local, which the library takes for the zone of Next's
// argument.
type zoned struct {
	cron.Schedule
	loc *time.Location
}

func (z zoned) Next(t time.Time) time.Time { return z.Schedule.Next(t.In(z.loc)) }

// Exception is a difference on a chain that the operator accepts until a date.
type Exception struct {
	Chain string
	audit.Exception
}

// maxAccept limits an exception, so that it is reviewed. A valid file stays valid, since its dates only come nearer.
const maxAccept = 366 * 24 * time.Hour

func (d *doc) accept(cfg *Config) {
	latest := d.env.Now().Add(maxAccept)
	seen := map[Exception]string{}
	for at, e := range elements(d, "accept", cfg.Accept) {
		d.difference(at, e, cfg.Chains)
		d.reason(at+".reason", e.Reason, "why you accept it")
		d.check(d.given(at+".expires"), at+".expires", "must be given, such as 2026-12-31: no finding is accepted for ever")
		d.check(!e.Expires.After(latest), at+".expires", "%s is more than a year ahead", e.Expires.Format(time.DateOnly))
		about := *e
		about.Reason, about.Expires = "", time.Time{}
		switch first, twice := seen[about]; {
		case slices.ContainsFunc([]string{".chain", ".contract", ".kind", ".list", ".id"}, func(key string) bool { return d.bad(at + key) }):
		case twice:
			d.add(at, "is about the same difference as %s", first)
		default:
			e.Index = len(seen)
			seen[about] = at
		}
	}
}

// difference checks the chain, contract, kind, list and id of an exception.
func (d *doc) difference(at string, e *Exception, chains []Chain) {
	configured := slices.ContainsFunc(chains, func(c Chain) bool { return c.Name == e.Chain })
	d.check(d.given(at+".chain"), at+".chain", "must be given")
	d.check(configured || d.bad("chains"), at+".chain", "must be the name of a chain in this file")
	d.check(d.given(at+".contract"), at+".contract", "must be given")
	d.check(d.given(at+".kind"), at+".kind", "must be given: the kind of the finding")
	switch {
	case !slices.Contains(audit.Kinds, e.Kind):
		d.add(at+".kind", "%s is not a kind of finding", sanitize.Quote(string(e.Kind)))
	case !e.Kind.Acceptable():
		d.add(at+".kind", "%s cannot be accepted: %s", e.Kind, unacceptable(e.Kind))
	default:
		e.ID = d.entry(at, e.Exception)
	}
}

// unacceptable says why a kind cannot be accepted.
func unacceptable(k audit.Kind) string {
	switch k {
	case audit.ChainMismatch, audit.ContractNotListed, audit.NoCode:
		return "nothing was compared"
	case audit.ContractUnexpected:
		return "the contract is not audited: add it to contracts"
	case audit.AcceptExpired, audit.AcceptUnused:
		return "change or remove the exception that it is about"
	default:
		return "a source gave false or unverified answers"
	}
}

// entry checks that list and id fit the kind, and returns the id in the spelling of a report.
func (d *doc) entry(at string, a audit.Exception) string {
	if !a.Kind.OfEntry() {
		for _, key := range []string{".list", ".id"} {
			d.check(!d.given(at+key), at+key, "must be left out: %s is about the contract as a whole", a.Kind)
		}
		return ""
	}
	d.check(slices.Contains(audit.Lists, a.List), at+".list", "must be device, os_image or aggregated_mr: %s is about an entry", a.Kind)
	switch {
	case a.Kind == audit.NoHash && a.ID != "":
		d.add(at+".id", "must be left out: an image without a hash has none")
	case a.Kind == audit.NoHash || d.bad(at+".id"):
	case a.ID == "":
		d.add(at+".id", "must be given: %s is about an entry", a.Kind)
	case a.Kind == audit.MalformedID:
		digits := strings.TrimSuffix(a.ID, "…")
		if s, err := strconv.Unquote(digits); err != nil || strconv.Quote(s) != digits || len(s) > sanitize.MaxLen {
			d.add(at+".id", `must be spelled as in the report, with its quotes: '"0x12"'`)
		}
	default:
		id, err := sanitize.ParseID(a.ID)
		if err != nil {
			d.add(at+".id", "%s", err)
		}
		return id.Hex()
	}
	return a.ID
}
