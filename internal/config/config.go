// Package config reads the configuration file: strict YAML, typed at the border, every problem at once.
//
// The flow: YAML nodes (read.go) are decoded into a mirror of the file (decode.go, file.go) over the defaults; resolving the mirror
// (resolve.go, chain.go, accept.go, secrets.go) checks it, reads the secrets it points at, and gives the Config.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/robfig/cron/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxSize bounds the file, in bytes.
const maxSize = 1 << 20

// Config is a checked configuration. It prints without secrets.
type Config struct {
	Schedule     string
	Cron         cron.Schedule // Schedule, parsed in Timezone
	Timezone     *time.Location
	Timeout      time.Duration // of one audit; longer than ConfirmDelay
	ConfirmDelay time.Duration
	PendingMax   time.Duration
	State        string // path of the state file; empty: in memory
	Evidence     Evidence
	API          API
	Chains       []Chain
	Discover     bool // of Chains, only those of which the API's list of KMS names a contract
	CrossChecks  bool
	Accept       []Exception // each about one of Chains
	Web          Web
	Heartbeat    Heartbeat
	Secrets      []string // the files that secrets were read from
}

// Evidence is where the daemon writes what each verdict rests on, and how many files stay; each number is 1 or more.
type Evidence struct {
	Dir         string `yaml:"dir"`          // empty: no evidence is kept
	KeepChanges int    `yaml:"keep_changes"` // newest files of audits that changed a verdict or a finding
	KeepLast    int    `yaml:"keep_last"`    // newest files of all audits
}

// API is where the claims come from. Key is empty where none is given.
type API struct {
	BaseURL string
	Version string
	Timeout time.Duration // of one request
	Key     sanitize.Secret
}

// Chain is one chain to audit. Without contracts, all that the API lists are audited.
type Chain struct {
	Name      string
	ChainID   uint64
	Block     []ethrpc.BlockTag
	Agreement int // of the providers, from 1 to all of them
	BatchSize int
	Verify    ethrpc.Verify
	Providers []ethrpc.Provider
	Contracts []Contract
}

// Contract is one contract to audit.
type Contract struct {
	Address   common.Address `yaml:"address"`
	FromBlock uint64         `yaml:"from_block"` // its first block; 0: to be found
	Explained []Explained    `yaml:"explained_slots"`
	Policy    *audit.Policy  `yaml:"policy"` // nil: the operator does not say
}

// Explained is a slot that the contract may use without a getter or event that tells of it.
type Explained struct {
	Slot   common.Hash `yaml:"slot"`
	Reason string      `yaml:"reason"` // why; of 1 to 200 bytes
}

// Web is where the daemon serves. ConfigFile is in the exporter-toolkit format; empty: no TLS, no authentication.
type Web struct {
	Listen     []string `yaml:"listen"`
	ConfigFile string   `yaml:"config_file"`
	Reload     bool     `yaml:"reload"` // the configuration can be reloaded over HTTP
}

// Heartbeat is who is told that the daemon audits. URL is empty where nobody is.
type Heartbeat struct {
	URL        sanitize.Secret
	Consistent bool // only after audits with that verdict
}

// Env is what of the world outside the file a configuration may point at.
type Env struct {
	Dir    string                           // the folder that relative file names start from
	Lookup func(name string) (string, bool) // nil: no variable is set
	Now    func() time.Time                 // nil: the clock
}

// Default is the configuration that applies without a file; config.example.yaml says the same. It has no API key.
func Default() *Config {
	cfg, err := newDoc(Env{}).resolve(defaults())
	if err != nil {
		panic(err)
	}
	return cfg
}

// Load reads and checks the file at path; an empty path is Default with the API key from the environment.
// What is wrong with the content is returned as Problems.
func Load(path string) (*Config, error) {
	env := Env{Dir: filepath.Dir(path), Lookup: os.LookupEnv}
	if path == "" {
		return newDoc(env).resolve(defaults())
	}
	data, err := readStart(path, maxSize)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", sanitize.Quote(path), err)
	}
	return Parse(data, env)
}

// Parse checks the content of a configuration file; what is wrong with it is returned as Problems.
func Parse(data []byte, env Env) (*Config, error) {
	d := newDoc(env)
	root := d.read(data)
	if root == nil {
		return nil, d.err()
	}
	f := defaults()
	d.decode(root, "", &f)
	return d.resolve(f)
}
