package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

const canary = "c4n4ry-5ecret"

const withSecrets = `
api: {%s}
heartbeat: {url: "https://hc.example/%[2]s"}
chains:
  - name: base
    chain_id: 8453
    providers:
      - {name: plain, url: "https://u:%[2]s@rpc.example/%[2]s?k=%[2]s", headers: {X-Key: "%[2]s"}}
      - {name: env, url_env: RPC_URL}
      - {name: file, url_file: url}
`

func TestSecretsNeverPrint(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"url": "https://rpc.example/" + canary, "key": canary, "bad": "rpc.example/" + canary, "lines": "https://x\n" + canary, "big": canary + strings.Repeat("x", 64<<10)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := config.Env{Dir: dir, Lookup: func(name string) (string, bool) {
		v, ok := map[string]string{"RPC_URL": "https://rpc.example/" + canary, "BAD_URL": "ftp://" + canary, "LINES": "a\n" + canary, "PHALA_CLOUD_API_KEY": canary}[name]
		return v, ok
	}}
	for _, key := range []string{"api_key_env: PHALA_CLOUD_API_KEY", "api_key_file: key"} {
		cfg, err := config.Parse(fmt.Appendf(nil, withSecrets, key, canary), env)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.API.Key.Reveal() != canary {
			t.Fatalf("%s did not bring the canary in", key)
		}
		if !strings.Contains(cfg.Heartbeat.URL.Reveal(), canary) {
			t.Fatal("the heartbeat did not bring the canary in")
		}
		for i, p := range cfg.Chains[0].Providers {
			if !strings.Contains(p.URL.Reveal(), canary) {
				t.Fatalf("provider %d did not bring the canary in", i)
			}
		}
		asJSON, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), fmt.Sprintf("%v %+v %#v %s %q", *cfg, cfg.Chains, cfg.Chains, cfg.API, cfg.API), string(asJSON), string(asYAML)} {
			if strings.Contains(out, canary) {
				t.Errorf("the canary shows in %s", out)
			}
		}
	}
	for _, row := range []struct{ name, file, want string }{
		{"a URL without a scheme", "chains: [{providers: [{url: rpc.example/CANARY}]}]", "providers[0].url: must be a URL"},
		{"a URL that does not parse", `chains: [{providers: [{url: "https://CANARY:CANARY/"}]}]`, "providers[0].url: is not a URL"},
		{"a URL that is not text", "chains: [{providers: [{url: [CANARY]}]}]", "providers[0].url: must be a single text"},
		{"a URL that looks like an alias", "chains: [{providers: [{url: *CANARY }]}]", "line 1: a value begins with *"},
		{"a URL with an anchor", "chains: [{providers: [{url: &CANARY x}]}]", "anchors, aliases and tags"},
		{"a URL with a tag", "chains: [{providers: [{url: !CANARY x}]}]", "anchors, aliases and tags"},
		{"a URL in a key's place", "chains: [{providers: [{https://rpc.example/CANARY: x}]}]", "providers[0].?: unknown key"},
		{"a URL in a provider's place", "chains: [{providers: [https://rpc.example/CANARY]}]", "providers[0]: must be a mapping"},
		{"a URL in the list's place", "chains: [{providers: https://rpc.example/CANARY}]", "providers: must be a list"},
		{"a URL in a name's place", "chains: [{providers: [{name: https://rpc.example/CANARY}]}]", "providers[0].name: must be a name"},
		{"a URL in a variable's place", "chains: [{providers: [{url_env: https://rpc.example/CANARY}]}]", "providers[0].url_env: must be the name of"},
		{"a bad URL in a variable", "chains: [{providers: [{url_env: BAD_URL}]}]", "providers[0].url_env: must be a URL"},
		{"a variable of two lines", "chains: [{providers: [{url_env: LINES}]}]", "variable LINES has line breaks"},
		{"a URL in a file name's place", "chains: [{providers: [{url_file: https://rpc.example/CANARY}]}]", "providers[0].url_file: must be the name of a file"},
		{"a bad URL in a file", "chains: [{providers: [{url_file: bad}]}]", "providers[0].url_file: must be a URL"},
		{"a file of two lines", "chains: [{providers: [{url_file: lines}]}]", `file "lines" has line breaks`},
		{"a file over the cap", "chains: [{providers: [{url_file: big}]}]", `reading "big": larger than 64 KiB`},
		{"a header value of two lines", `chains: [{providers: [{headers: {K: "CANARY\n"}}]}]`, "providers[0].headers: a header's value"},
		{"a header value in its name's place", `chains: [{providers: [{headers: {CANARY: }}]}]`, "providers[0].headers: a header's value"},
		{"a header twice", `chains: [{providers: [{headers: {k: CANARY, K: CANARY}}]}]`, "providers[0].headers: a header is given twice"},
		{"a key in a variable's place", "api: {api_key_env: CANARY}", "api.api_key_env: must be the name of"},
		{"a key in a file's place", "api: {api_key_file: phak_CANARY}", "api.api_key_file: must be the name of a file"},
		{"a password in the base URL", "api: {base_url: 'https://u:CANARY@api.example'}", "api.base_url: must not have a user"},
		{"a query in the base URL", "api: {base_url: 'https://api.example?CANARY'}", "api.base_url: must not have a user"},
		{"a key without its key", "api: CANARY", "api: must be a mapping"},
		{"a broken line", "api:\n  api_key_env CANARY\n  timeout: 3s", "line 3: not valid YAML here or a little below"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg, err := config.Parse([]byte(strings.ReplaceAll(row.file, "CANARY", canary)), env)
			if err == nil {
				t.Fatalf("accepted as %v", cfg)
			}
			if out := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(out, canary) {
				t.Errorf("the canary shows in %s", out)
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("%q does not say %q", err, row.want)
			}
		})
	}
}
