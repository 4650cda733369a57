// Package config reads the configuration file: strict YAML, typed at the border, every problem at once.
//
// YAML nodes are decoded into a Config over its defaults (decode.go). Resolving it (resolve.go, secrets.go) checks the values and reads
// the secrets that they name. A doc collects the problems.
package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/robfig/cron/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxSize bounds the file, in bytes.
const maxSize = 1 << 20

// Config is a checked configuration. It prints without secrets. The tags have the keys of the file, which config.example.yaml
// documents; a field without a tag is not a key.
type Config struct {
	Schedule     string        `yaml:"schedule"`
	Cron         cron.Schedule // Schedule, parsed in Timezone
	Timezone     string        `yaml:"timezone"`
	Timeout      time.Duration `yaml:"timeout"` // of one audit; longer than ConfirmDelay
	ConfirmDelay time.Duration `yaml:"confirm_delay"`
	PendingMax   time.Duration `yaml:"pending_max"`
	State        string        `yaml:"state"` // path of the state file; empty: in memory
	Evidence     Evidence      `yaml:"evidence"`
	API          API           `yaml:"api"`
	Chains       []Chain       `yaml:"chains"`
	Discover     bool          // audit only those Chains on which the API's list of KMS names a contract
	CrossChecks  bool          `yaml:"cross_checks"`
	Accept       []Exception   `yaml:"accept"` // each about one of Chains
	Web          Web           `yaml:"web"`
	Heartbeat    Heartbeat     `yaml:"heartbeat"`
	Files        []string      // files that were read too, such as those of secrets
}

// Evidence says where the daemon keeps evidence, and how many files, at least 1 each.
type Evidence struct {
	Dir         string `yaml:"dir"`          // empty: no evidence is kept
	KeepChanges int    `yaml:"keep_changes"` // newest files of audits that changed a verdict or a finding
	KeepLast    int    `yaml:"keep_last"`    // newest files of all audits
}

// API is the source of the claims. Key is optional.
type API struct {
	BaseURL string          `yaml:"base_url"`
	Version string          `yaml:"version"`
	Timeout time.Duration   `yaml:"timeout"` // of one request
	Key     sanitize.Secret `yaml:"api_key_env|api_key_file"`
}

// Chain is one chain to audit. Without contracts, all that the API lists are audited.
type Chain struct {
	Name      string            `yaml:"name"`
	ChainID   uint64            `yaml:"chain_id"`
	Block     []ethrpc.BlockTag `yaml:"block"`
	Agreement uint64            `yaml:"agreement"` // of the providers, from 1 to all of them
	BatchSize int               `yaml:"batch_size"`
	Verify    ethrpc.Verify     `yaml:"verify"`
	Explorer  string            `yaml:"explorer"` // URL without a final slash; empty: no links. It has /block/N, /tx/HASH and /address/ADDRESS
	Anchor    *Anchor           `yaml:"anchor"`   // nil: only the providers vouch for a block
	Claims    string            `yaml:"claims"`   // FromAPI; or NoClaims if no API covers the contracts, which must be listed
	Providers []ethrpc.Provider `yaml:"providers"`
	Contracts []Contract        `yaml:"contracts"`
}

// Anchor confirms the hash of a block independently of the providers: by Ethereum's sync committees or, for an L2, by its contracts
// on L1.
type Anchor struct {
	Beacon     []anchor.Endpoint `yaml:"beacon"`     // beacon APIs that serve a light client, in order of preference; at least one
	Checkpoint common.Hash       `yaml:"checkpoint"` // the root of a finalized beacon block that the operator trusts
	Required   Required          `yaml:"required"`
	File       string            `yaml:"network"` // specification and genesis of a network other than mainnet and sepolia
	Network    consensus.Network // File, read

	L1Name       string         `yaml:"l1"`            // name of a chain with an anchor of its own; replaces Beacon, Checkpoint and File
	SystemConfig common.Address `yaml:"system_config"` // the chain's contract on L1
	L1           *Chain         // the chain that L1Name names
}

// Required is the trust without which the verdict is unknown; empty if none is required.
type Required audit.Trust

// requiredWords has the spelling of the file.
var requiredWords = map[string]Required{"false": "", "true": Required(audit.TrustConsensus), "proposed": Required(audit.TrustL1Proposed), "anchored": Required(audit.TrustL1Anchored)}

func (r Required) String() string {
	for word, trust := range requiredWords {
		if trust == r {
			return word
		}
	}
	return ""
}

// Values of Chain.Claims: the source, besides policies, that contracts are compared with.
const (
	FromAPI  = "api"
	NoClaims = "none"
)

// Contract is one contract to audit.
type Contract struct {
	Address   common.Address        `yaml:"address"`
	FromBlock uint64                `yaml:"from_block"`      // block of its deployment; 0: search for it
	Explained []audit.ExplainedSlot `yaml:"explained_slots"` // each with a reason of 1 to 200 bytes
	Policy    audit.Policy          `yaml:"policy"`
}

// Web configures the HTTP server. ConfigFile has the exporter-toolkit format; without it there is no TLS and no authentication.
type Web struct {
	Listen      []string `yaml:"listen"`
	ConfigFile  string   `yaml:"config_file"`
	Reload      bool     `yaml:"reload"`       // the configuration can be reloaded over HTTP
	ExternalURL string   `yaml:"external_url"` // of the status page, without a final slash; empty: alerts have no link to it
}

// Heartbeat is a URL that the daemon requests after audits; empty: none.
type Heartbeat struct {
	URL sanitize.Secret `yaml:"url|url_env|url_file"`
	On  string          `yaml:"on"` // completed, or consistent: only after audits with that verdict
}

// Env is the environment that a configuration may refer to.
type Env struct {
	Dir    string                           // the folder that relative file names start from
	Lookup func(name string) (string, bool) // nil if no variable is set
	Now    func() time.Time                 // nil: the clock
}

// providerTimeout is the default of a provider's timeout.
const providerTimeout = 20 * time.Second

// newChain returns a chain with its defaults.
func newChain() Chain {
	c := Chain{Agreement: 1, BatchSize: 100, Claims: FromAPI}
	for _, tag := range []string{"finalized", "safe", "latest-5"} {
		t, err := ethrpc.ParseBlockTag(tag)
		if err != nil {
			panic(err)
		}
		c.Block = append(c.Block, t)
	}
	return c
}

func defaults() *Config {
	return &Config{
		Schedule:     "*/5 * * * *",
		Timezone:     "UTC",
		Timeout:      2 * time.Minute,
		ConfirmDelay: 15 * time.Second,
		PendingMax:   time.Hour,
		Evidence:     Evidence{KeepChanges: 100, KeepLast: 12},
		API: API{
			BaseURL: "https://cloud-api.phala.com/api/v1",
			Version: "2026-06-23",
			Timeout: 30 * time.Second,
			Key:     sanitize.NewSecret("PHALA_CLOUD_API_KEY"), // of the environment
		},
		Chains: []Chain{
			public("base", 8453, "https://basescan.org", "base-public", "https://mainnet.base.org", "publicnode", "https://base-rpc.publicnode.com", "drpc", "https://base.drpc.org"),
			public("ethereum", 1, "https://etherscan.io", "publicnode", "https://ethereum-rpc.publicnode.com", "drpc", "https://eth.drpc.org"),
		},
		Web:       Web{Listen: []string{":10726"}},
		Heartbeat: Heartbeat{On: "completed"},
	}
}

// public returns a chain with endpoints that need no key, given as names and URLs in turn.
func public(name string, id uint64, explorer string, providers ...string) Chain {
	c := newChain()
	c.Name, c.ChainID, c.Explorer = name, id, explorer
	for i := 0; i < len(providers); i += 2 {
		c.Providers = append(c.Providers, ethrpc.Provider{Name: providers[i], URL: sanitize.NewSecret(providers[i+1]), Timeout: providerTimeout})
	}
	return c
}

// Default is the built-in configuration, which config.example.yaml repeats. It has no API key.
func Default() *Config {
	cfg, err := newDoc(Env{}).resolve(defaults())
	if err != nil {
		panic(err)
	}
	return cfg
}

// Load reads and checks the file at path; an empty path is Default with the API key from the environment.
// Its errors name the file; those of the content wrap Problems.
func Load(path string) (*Config, error) {
	env := Env{Dir: filepath.Dir(path), Lookup: os.LookupEnv}
	if path == "" {
		cfg, err := newDoc(env).resolve(defaults())
		if err != nil {
			return nil, fmt.Errorf("the built-in configuration: %w", err)
		}
		return cfg, nil
	}
	data, err := readStart(path, maxSize)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", sanitize.Quote(path), err)
	}
	cfg, err := Parse(data, env)
	if ps, many := err.(Problems); many && len(ps) > 1 {
		return nil, fmt.Errorf("configuration %s has %d problems:\n%w", sanitize.Quote(path), len(ps), err)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", sanitize.Quote(path), err)
	}
	return cfg, nil
}

// Parse checks the content of a configuration file. Its error is Problems.
func Parse(data []byte, env Env) (*Config, error) {
	d := newDoc(env)
	root := d.read(data)
	if root == nil {
		return nil, d.err()
	}
	cfg := defaults()
	d.decode(root, "", cfg)
	return d.resolve(cfg)
}

// Problem is one thing wrong with a configuration. Line is 0 if no line is at fault.
type Problem struct {
	Line    int
	Path    string // such as chains[0].providers[1].url; empty for the whole file
	Message string
}

func (p Problem) String() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// Problems is everything wrong with a configuration, by line. Error has one line for each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// doc collects the lines of a file's keys, and its problems.
type doc struct {
	env      Env
	lines    map[string]int // by path
	problems Problems
	seen     map[Problem]bool // by line and path, without the message
	values   map[[2]any]bool  // values that must be unique, by the path of their list
	files    []string         // other files that were read
}

func newDoc(env Env) *doc {
	if env.Now == nil {
		env.Now = time.Now
	}
	return &doc{env: env, lines: map[string]int{}, seen: map[Problem]bool{}, values: map[[2]any]bool{}}
}

// given reports whether the file has a value at path.
func (d *doc) given(path string) bool { return d.lines[path] > 0 }

// add adds a problem at path, on its line or that of its parent. Only the first problem at a place is kept: the others may
// follow from it.
func (d *doc) add(path, format string, args ...any) {
	d.addAt(d.lineOf(path), path, format, args...)
}

// check adds a problem at path unless ok.
func (d *doc) check(ok bool, path, format string, args ...any) {
	if !ok {
		d.add(path, format, args...)
	}
}

// bad reports whether there is a problem at path.
func (d *doc) bad(path string) bool { return d.seen[Problem{Line: d.lineOf(path), Path: path}] }

func (d *doc) lineOf(path string) int {
	for path != "" && !d.given(path) {
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.lines[path]
}

func (d *doc) addAt(line int, path, format string, args ...any) {
	p := Problem{Line: line, Path: path}
	if !d.seen[p] {
		d.seen[p] = true
		p.Message = fmt.Sprintf(format, args...)
		d.problems = append(d.problems, p)
	}
}

// maxProblems limits the output for a file that is not a configuration at all.
const maxProblems = 100

func (d *doc) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if n := len(d.problems) - maxProblems; n > 0 {
		return append(d.problems[:maxProblems:maxProblems], Problem{Message: fmt.Sprintf("and %d more", n)})
	}
	return d.problems
}
