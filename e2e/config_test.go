//go:build e2e

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// settings is a configuration. Empty fields keep their defaults.
type settings struct {
	Schedule     string           `json:"schedule,omitempty"`
	Timeout      string           `json:"timeout,omitempty"`
	ConfirmDelay string           `json:"confirm_delay,omitempty"`
	PendingMax   string           `json:"pending_max,omitempty"`
	State        string           `json:"state,omitempty"`
	Evidence     evidenceSettings `json:"evidence,omitzero"`
	API          apiSettings      `json:"api"`
	CrossChecks  bool             `json:"cross_checks,omitempty"`
	Chains       []chainSettings  `json:"chains"`
	Accept       []acceptSettings `json:"accept,omitempty"`
	Web          *webSettings     `json:"web,omitempty"`
}

type evidenceSettings struct {
	Dir      string `json:"dir,omitempty"`
	KeepLast int    `json:"keep_last,omitempty"`
}

type apiSettings struct {
	BaseURL    string `json:"base_url"`
	Version    string `json:"version,omitempty"`
	Timeout    string `json:"timeout,omitempty"`
	APIKeyEnv  string `json:"api_key_env,omitempty"`
	APIKeyFile string `json:"api_key_file,omitempty"`
}

type chainSettings struct {
	Name      string             `json:"name"`
	ChainID   uint64             `json:"chain_id"`
	Block     any                `json:"block,omitempty"`
	BatchSize int                `json:"batch_size,omitempty"`
	Agreement int                `json:"agreement,omitempty"`
	Verify    string             `json:"verify,omitempty"`
	Providers []providerSettings `json:"providers"`
	Explorer  string             `json:"explorer,omitempty"`
	Anchor    *anchorSettings    `json:"anchor,omitempty"`
	Claims    string             `json:"claims,omitempty"`
	Contracts []contractSettings `json:"contracts,omitempty"`
}

type anchorSettings struct {
	Beacon       []providerSettings `json:"beacon,omitempty"`
	Checkpoint   string             `json:"checkpoint,omitempty"`
	Required     any                `json:"required,omitempty"`
	Network      string             `json:"network,omitempty"`
	L1           string             `json:"l1,omitempty"`
	SystemConfig string             `json:"system_config,omitempty"`
}

type providerSettings struct {
	Name    string            `json:"name"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Timeout string            `json:"timeout,omitempty"`
}

type contractSettings struct {
	Address   string              `json:"address"`
	FromBlock uint64              `json:"from_block,omitempty"`
	Explained []explainedSettings `json:"explained_slots,omitempty"`
	Policy    map[string]any      `json:"policy,omitempty"`
}

type acceptSettings struct {
	Chain    string `json:"chain"`
	Contract string `json:"contract"`
	Kind     string `json:"kind"`
	List     string `json:"list,omitempty"`
	ID       string `json:"id,omitempty"`
	Reason   string `json:"reason"`
	Expires  string `json:"expires"`
}

type explainedSettings struct {
	Slot   string `json:"slot"`
	Reason string `json:"reason"`
}

type webSettings struct {
	Listen      []string `json:"listen"`
	ConfigFile  string   `json:"config_file,omitempty"`
	Reload      bool     `json:"reload,omitempty"`
	ExternalURL string   `json:"external_url,omitempty"`
}

// settings audits the node through its proxy at the newest block, without a confirm_delay.
func (n *node) settings(a *api) settings {
	return settings{
		ConfirmDelay: "0s",
		API:          apiSettings{BaseURL: a.url, Timeout: "2s"},
		Chains: []chainSettings{{
			Name: "base", ChainID: n.chainID, Block: "latest",
			Providers: []providerSettings{{Name: "p1", URL: n.proxied, Timeout: "2s"}},
		}},
	}
}

// writeConfig writes a configuration into a new folder and returns its path. A value other than a string is written as JSON, which
// is valid YAML.
func writeConfig(t testing.TB, c any) string {
	t.Helper()
	text, ok := c.(string)
	if !ok {
		b, err := json.MarshalIndent(c, "", "  ")
		must(t, err)
		text = string(b)
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
