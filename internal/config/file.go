package config

import (
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// file mirrors the YAML file; config.example.yaml documents each key.
type file struct {
	Schedule     string        `yaml:"schedule"`
	Timezone     string        `yaml:"timezone"`
	Timeout      time.Duration `yaml:"timeout"`
	ConfirmDelay time.Duration `yaml:"confirm_delay"`
	PendingMax   time.Duration `yaml:"pending_max"`
	State        string        `yaml:"state"`
	Evidence     Evidence      `yaml:"evidence"`
	API          fileAPI       `yaml:"api"`
	Chains       []fileChain   `yaml:"chains"`
	CrossChecks  bool          `yaml:"cross_checks"`
	Accept       []fileAccept  `yaml:"accept"`
	Web          Web           `yaml:"web"`
	Heartbeat    fileHeartbeat `yaml:"heartbeat"`
}

type fileAPI struct {
	BaseURL    string        `yaml:"base_url"`
	Version    string        `yaml:"version"`
	Timeout    time.Duration `yaml:"timeout"`
	APIKeyEnv  string        `yaml:"api_key_env"`
	APIKeyFile string        `yaml:"api_key_file"`
}

type fileChain struct {
	Name      string            `yaml:"name"`
	ChainID   uint64            `yaml:"chain_id"`
	Block     []ethrpc.BlockTag `yaml:"block"`
	Agreement uint64            `yaml:"agreement"`
	BatchSize int               `yaml:"batch_size"`
	Verify    ethrpc.Verify     `yaml:"verify"`
	Providers []fileProvider    `yaml:"providers"`
	Contracts []Contract        `yaml:"contracts"`
}

type fileProvider struct {
	Name              string                     `yaml:"name"`
	URL               string                     `yaml:"url"`
	URLEnv            string                     `yaml:"url_env"`
	URLFile           string                     `yaml:"url_file"`
	Headers           map[string]sanitize.Secret `yaml:"headers"`
	Timeout           time.Duration              `yaml:"timeout"`
	RequestsPerSecond float64                    `yaml:"requests_per_second"`
}

// filePolicy has the fields of audit.Policy.
type filePolicy struct {
	Devices        []common.Hash   `yaml:"devices"`
	OSImages       []common.Hash   `yaml:"os_images"`
	Owner          *common.Address `yaml:"owner"`
	Implementation *common.Address `yaml:"implementation"`
	CodeHash       *common.Hash    `yaml:"code_hash"`
}

type fileAccept struct {
	Chain    string         `yaml:"chain"`
	Contract common.Address `yaml:"contract"`
	Kind     audit.Kind     `yaml:"kind"`
	List     audit.List     `yaml:"list"`
	ID       entryID        `yaml:"id"`
	Reason   string         `yaml:"reason"`
	Expires  time.Time      `yaml:"expires"`
}

type fileHeartbeat struct {
	URL     string `yaml:"url"`
	URLEnv  string `yaml:"url_env"`
	URLFile string `yaml:"url_file"`
	On      string `yaml:"on"`
}

// setDefaults is called for each element of a list before the file's values.
func (c *fileChain) setDefaults() {
	for _, tag := range []string{"finalized", "safe", "latest-5"} {
		t, err := ethrpc.ParseBlockTag(tag)
		if err != nil {
			panic(err)
		}
		c.Block = append(c.Block, t)
	}
	c.Agreement, c.BatchSize = 1, 100
}

func (p *fileProvider) setDefaults() { p.Timeout = 20 * time.Second }

func defaults() file {
	return file{
		Schedule:     "*/5 * * * *",
		Timezone:     "UTC",
		Timeout:      2 * time.Minute,
		ConfirmDelay: 15 * time.Second,
		PendingMax:   time.Hour,
		Evidence:     Evidence{KeepChanges: 100, KeepLast: 12},
		API: fileAPI{
			BaseURL:   "https://cloud-api.phala.com/api/v1",
			Version:   "2026-06-23",
			Timeout:   30 * time.Second,
			APIKeyEnv: "PHALA_CLOUD_API_KEY",
		},
		Chains: []fileChain{
			public("base", 8453, "base-public", "https://mainnet.base.org", "publicnode", "https://base-rpc.publicnode.com", "drpc", "https://base.drpc.org"),
			public("ethereum", 1, "publicnode", "https://ethereum-rpc.publicnode.com", "drpc", "https://eth.drpc.org"),
		},
		Web:       Web{Listen: []string{":10726"}},
		Heartbeat: fileHeartbeat{On: "completed"},
	}
}

// public is a chain read through endpoints that need no key: names and URLs in turn.
func public(name string, id uint64, providers ...string) fileChain {
	c := fileChain{Name: name, ChainID: id}
	c.setDefaults()
	for i := 0; i < len(providers); i += 2 {
		p := fileProvider{Name: providers[i], URL: providers[i+1]}
		p.setDefaults()
		c.Providers = append(c.Providers, p)
	}
	return c
}
