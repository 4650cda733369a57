package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

var (
	chainName    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	providerName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

const maxBatch = 1000

var verifies = map[string]ethrpc.Verify{"auto": ethrpc.VerifyAuto, "required": ethrpc.VerifyRequired, "off": ethrpc.VerifyOff}

func mustPolicy(s string) policy {
	p, err := ethrpc.ParseBlockTag(s)
	if err != nil {
		panic(err)
	}
	return policy(p)
}

// discovers tells whether the API's list of KMS decides which chains are audited: where it is asked for, and the file
// names none.
func (r resolver) discovers(f file) bool {
	return f.CrossChecks && len(f.Chains) == 0 && !r.bad("chains")
}

func (r resolver) chains(fs []fileChain) []Chain {
	if len(fs) == 0 {
		r.add("chains", "is empty: there is nothing to audit (with cross_checks: true, the chains of the built-in default that the API's list of KMS names)")
	}
	chains := make([]Chain, len(fs))
	seen := map[string]bool{}
	for i, f := range fs {
		at := fmt.Sprintf("chains[%d]", i)
		if r.bad(at) {
			continue
		}
		switch {
		case !chainName.MatchString(f.Name):
			r.add(at+".name", "must be the API's name for the chain: 1 to 64 characters of a-z, 0-9, _ and -, the first a letter or a digit")
		case seen[f.Name]:
			r.add(at+".name", "chain %s is listed twice", f.Name)
		}
		seen[f.Name] = true
		chains[i] = r.chain(at, f)
	}
	return chains
}

func (r resolver) chain(at string, f fileChain) Chain {
	c := Chain{Name: f.Name, ChainID: f.ChainID, BatchSize: int(min(f.BatchSize, maxBatch))}
	if f.ChainID == 0 {
		r.add(at+".chain_id", "must be given, such as 8453 for base or 1 for ethereum")
	}
	if f.BatchSize < 1 || f.BatchSize > maxBatch {
		r.add(at+".batch_size", "must be from 1 to %d", maxBatch)
	}
	mode, ok := verifies[f.Verify]
	if !ok {
		r.add(at+".verify", "must be auto, required or off")
	}
	c.Verify = mode
	if len(f.Block) == 0 {
		r.add(at+".block", "must have at least one block policy")
	}
	for _, p := range f.Block {
		c.Block = append(c.Block, ethrpc.BlockTag(p))
	}
	c.Providers = r.providers(at+".providers", f.Providers)
	if n := len(f.Providers); !r.bad(at+".providers") && (f.Agreement < 1 || f.Agreement > uint64(n)) {
		r.add(at+".agreement", "%d must be from 1 to the number of providers, which is %d", f.Agreement, n)
	}
	c.Agreement = int(min(f.Agreement, uint64(len(f.Providers))))
	if c.Agreement > 1 {
		r.apart(at+".providers", c.Providers)
	}
	c.Contracts = r.contracts(at+".contracts", f.Contracts)
	return c
}

// apart checks that no two providers are one endpoint, which would agree with itself. It shows no URL.
func (r resolver) apart(path string, providers []ethrpc.Provider) {
	seen := map[string]int{}
	for i, p := range providers {
		u, err := url.Parse(p.URL.Reveal())
		if err != nil || u.Host == "" {
			continue // that is a problem already
		}
		u.Host, u.Path, u.RawPath = strings.ToLower(u.Host), strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
		first, twice := seen[u.String()]
		if twice {
			r.add(fmt.Sprintf("%s[%d]", path, i), "has the URL of providers[%d]: one endpoint cannot agree with itself, so agreement takes different ones", first)
			continue
		}
		seen[u.String()] = i
	}
}

func (r resolver) providers(path string, fs []fileProvider) []ethrpc.Provider {
	if len(fs) == 0 {
		r.add(path, "must have at least one provider")
	}
	providers := make([]ethrpc.Provider, len(fs))
	seen := map[string]bool{}
	for i, f := range fs {
		at := fmt.Sprintf("%s[%d]", path, i)
		if r.bad(at) {
			continue
		}
		switch {
		case !providerName.MatchString(f.Name):
			r.add(at+".name", "must be a name of 1 to 64 characters of A-Z, a-z, 0-9, dot, _ and -")
		case seen[f.Name]:
			r.add(at+".name", "provider %s is listed twice in this chain", f.Name)
		}
		seen[f.Name] = true
		if f.RequestsPerSecond < 0 {
			r.add(at+".requests_per_second", "must not be negative (0: no limit)")
		}
		providers[i] = ethrpc.Provider{
			Name:              f.Name,
			URL:               sanitize.NewSecret(r.url(at, f.URL, f.URLEnv, f.URLFile)),
			Headers:           f.Headers,
			Timeout:           r.positive(at+".timeout", f.Timeout),
			RequestsPerSecond: f.RequestsPerSecond,
		}
	}
	return providers
}
