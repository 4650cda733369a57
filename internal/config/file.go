package config

import "time"

// file mirrors the YAML file; config.example.yaml documents each key.
type file struct {
	Schedule     string       `yaml:"schedule"`
	Timezone     string       `yaml:"timezone"`
	Timeout      duration     `yaml:"timeout"`
	ConfirmDelay duration     `yaml:"confirm_delay"`
	PendingMax   duration     `yaml:"pending_max"`
	State        string       `yaml:"state"`
	Evidence     fileEvidence `yaml:"evidence"`
	API          fileAPI      `yaml:"api"`
	Chains       []fileChain  `yaml:"chains"`
	CrossChecks  bool         `yaml:"cross_checks"`
	Accept       []fileAccept `yaml:"accept"`
	Web          fileWeb      `yaml:"web"`

	Heartbeat fileHeartbeat `yaml:"heartbeat"`
}

type fileEvidence struct {
	Dir         string `yaml:"dir"`
	KeepChanges uint64 `yaml:"keep_changes"`
	KeepLast    uint64 `yaml:"keep_last"`
}

type fileAPI struct {
	BaseURL    string   `yaml:"base_url"`
	Version    string   `yaml:"version"`
	Timeout    duration `yaml:"timeout"`
	APIKeyEnv  string   `yaml:"api_key_env"`
	APIKeyFile string   `yaml:"api_key_file"`
}

type fileChain struct {
	Name      string         `yaml:"name"`
	ChainID   uint64         `yaml:"chain_id"`
	Block     policies       `yaml:"block"`
	Agreement uint64         `yaml:"agreement"`
	BatchSize uint64         `yaml:"batch_size"`
	Verify    string         `yaml:"verify"`
	Providers []fileProvider `yaml:"providers"`
	Contracts []fileContract `yaml:"contracts"`
}

type fileProvider struct {
	Name              string   `yaml:"name"`
	URL               string   `yaml:"url"`
	URLEnv            string   `yaml:"url_env"`
	URLFile           string   `yaml:"url_file"`
	Headers           headers  `yaml:"headers"`
	Timeout           duration `yaml:"timeout"`
	RequestsPerSecond float64  `yaml:"requests_per_second"`
}

type fileContract struct {
	Address   address         `yaml:"address"`
	FromBlock uint64          `yaml:"from_block"`
	Explained []fileExplained `yaml:"explained_slots"`
	Policy    filePolicy      `yaml:"policy"`
}

type fileExplained struct {
	Slot   bytes32 `yaml:"slot"`
	Reason string  `yaml:"reason"`
}

type filePolicy struct {
	Devices        []bytes32 `yaml:"devices"`
	OSImages       []bytes32 `yaml:"os_images"`
	Owner          address   `yaml:"owner"`
	Implementation address   `yaml:"implementation"`
	CodeHash       bytes32   `yaml:"code_hash"`
}

type fileAccept struct {
	Chain    string   `yaml:"chain"`
	Contract address  `yaml:"contract"`
	Kind     string   `yaml:"kind"`
	List     string   `yaml:"list"`
	ID       reportID `yaml:"id"`
	Reason   string   `yaml:"reason"`
	Expires  expiry   `yaml:"expires"`
}

type fileWeb struct {
	Listen     []string `yaml:"listen"`
	ConfigFile string   `yaml:"config_file"`
	Reload     bool     `yaml:"reload"`
}

type fileHeartbeat struct {
	URL     string `yaml:"url"`
	URLEnv  string `yaml:"url_env"`
	URLFile string `yaml:"url_file"`
	On      string `yaml:"on"`
}

func (c *fileChain) setDefaults() {
	*c = fileChain{Block: policies{mustPolicy("finalized"), mustPolicy("safe"), mustPolicy("latest-5")}, Agreement: 1, BatchSize: 100, Verify: "auto"}
}

func (p *fileProvider) setDefaults() { p.Timeout = duration(20 * time.Second) }

func defaults() file {
	return file{
		Schedule:     "*/5 * * * *",
		Timezone:     "UTC",
		Timeout:      duration(2 * time.Minute),
		ConfirmDelay: duration(15 * time.Second),
		PendingMax:   duration(time.Hour),
		Evidence:     fileEvidence{KeepChanges: 100, KeepLast: 12},
		API: fileAPI{
			BaseURL:   "https://cloud-api.phala.com/api/v1",
			Version:   "2026-06-23",
			Timeout:   duration(30 * time.Second),
			APIKeyEnv: "PHALA_CLOUD_API_KEY",
		},
		Chains: []fileChain{
			public("base", 8453, "base-public", "https://mainnet.base.org", "publicnode", "https://base-rpc.publicnode.com", "drpc", "https://base.drpc.org"),
			public("ethereum", 1, "publicnode", "https://ethereum-rpc.publicnode.com", "drpc", "https://eth.drpc.org"),
		},
		Web:       fileWeb{Listen: []string{":10726"}},
		Heartbeat: fileHeartbeat{On: heartbeatCompleted},
	}
}

// public is a chain read through endpoints that need no key: names and URLs in turn.
func public(name string, id uint64, providers ...string) fileChain {
	var c fileChain
	c.setDefaults()
	c.Name, c.ChainID = name, id
	for i := 0; i < len(providers); i += 2 {
		p := fileProvider{Name: providers[i], URL: providers[i+1]}
		p.setDefaults()
		c.Providers = append(c.Providers, p)
	}
	return c
}
