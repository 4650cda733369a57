package config

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

var (
	chainName    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	providerName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

const maxBatch = 1000

func (d *doc) chains(cfg *Config) {
	d.check(len(cfg.Chains) > 0, "chains", "is empty: there is nothing to audit (with cross_checks: true, the chains of the built-in default that the API's list of KMS names)")
	seen := map[string]bool{}
	for at, c := range elements(d, "chains", cfg.Chains) {
		d.check(chainName.MatchString(c.Name), at+".name",
			"must be the API's name for the chain: 1 to 64 characters of a-z, 0-9, _ and -, the first a letter or a digit")
		unique(d, seen, at+".name", c.Name, "chain %s is listed twice")
		d.check(c.ChainID != 0, at+".chain_id", "must be given, such as 8453 for base or 1 for ethereum")
		d.upTo(maxBatch, at+".batch_size", c.BatchSize)
		d.check(len(c.Block) > 0, at+".block", "must have at least one block policy")
		d.providers(at+".providers", c.Providers, c.Agreement > 1)
		agreed := c.Agreement >= 1 && c.Agreement <= uint64(len(c.Providers))
		d.check(agreed || d.bad(at+".providers"), at+".agreement",
			"%d must be from 1 to the number of providers, which is %d", c.Agreement, len(c.Providers))
		d.contracts(at+".contracts", c.Contracts)
	}
}

func (d *doc) providers(path string, providers []ethrpc.Provider, apart bool) {
	d.check(len(providers) > 0, path, "must have at least one provider")
	seen, endpoints := map[string]bool{}, map[string]string{}
	for at, p := range elements(d, path, providers) {
		d.check(providerName.MatchString(p.Name), at+".name", "must be a name of 1 to 64 characters of A-Z, a-z, 0-9, dot, _ and -")
		unique(d, seen, at+".name", p.Name, "provider %s is listed twice in this chain")
		d.check(p.RequestsPerSecond >= 0, at+".requests_per_second", "must not be negative (0: no limit)")
		d.secretURL(at, &p.URL)
		d.positive(at+".timeout", p.Timeout)
		if apart {
			d.apart(endpoints, at, p.URL.Reveal())
		}
	}
}

// apart checks that no provider before at is the same endpoint, which would agree with itself. It shows no URL.
func (d *doc) apart(endpoints map[string]string, at, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return // that is a problem already
	}
	u.Host, u.Path, u.RawPath = strings.ToLower(u.Host), strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if first, twice := endpoints[u.String()]; twice {
		_, first, _ = strings.Cut(first, ".")
		d.add(at, "has the URL of %s: one endpoint cannot agree with itself, so agreement takes different ones", first)
		return
	}
	endpoints[u.String()] = at
}

func (d *doc) contracts(path string, contracts []Contract) {
	seen := map[common.Address]bool{}
	for at, c := range elements(d, path, contracts) {
		d.check(d.given(at+".address"), at+".address", "must be given")
		unique(d, seen, at+".address", c.Address, "contract %s is listed twice")
		d.explained(at+".explained_slots", c.Explained)
		d.ids(at+".policy.devices", c.Policy.Devices)
		d.ids(at+".policy.os_images", c.Policy.OSImages)
	}
}

func (d *doc) explained(path string, slots []audit.ExplainedSlot) {
	seen := map[common.Hash]bool{}
	for at, e := range elements(d, path, slots) {
		d.check(d.given(at+".slot"), at+".slot", "must be given")
		unique(d, seen, at+".slot", e.Slot, "slot %s is listed twice in this contract")
		d.reason(at+".reason", e.Reason, "why the slot may be in use")
	}
}

func (d *doc) ids(path string, ids []common.Hash) {
	seen := map[common.Hash]bool{}
	for at, id := range elements(d, path, ids) {
		unique(d, seen, at, *id, "id %s is listed twice")
	}
}

// reason checks that a text tells something, and fits into what a report shows of one.
func (d *doc) reason(path, s, why string) {
	d.check(strings.TrimSpace(s) != "", path, "must be given: the report shows %s", why)
	d.check(len(s) <= sanitize.MaxLen, path, "must be at most %d bytes long, and has %d", sanitize.MaxLen, len(s))
}
