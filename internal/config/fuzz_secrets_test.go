package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// FuzzSecrets holds that what stands in the environment and in a file of secrets is taken as it is or refused, and
// that no refusal tells any of it.
func FuzzSecrets(f *testing.F) {
	f.Add("https://user:pass@rpc.example/v3/", "phak_", "Bearer ")
	f.Add(" https://rpc.example/\n", "\n", "")
	f.Add("rpc.example/", "a\nb", "\x1b[2J")
	f.Add("https://x\nhttps://y", "${KEY}", "${X}")
	f.Add("https://[::1", strings.Repeat("k", 300), "\xff")
	f.Add("", "", "")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, address, file, header string) {
		if address != "" {
			address += canary
		}
		if file != "" {
			file += canary
		}
		if err := os.WriteFile(filepath.Join(dir, "key"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		env := config.Env{Dir: dir, Lookup: func(name string) (string, bool) { return address, name == "RPC_URL" }}
		cfg, err := config.Parse(fmt.Appendf(nil, "api: {api_key_file: key}\nchains: [{name: base, chain_id: 8453, providers: [{name: one, url_env: RPC_URL, headers: {X: %q}}]}]", header+canary), env)
		if err != nil {
			problems, ok := errors.AsType[config.Problems](err)
			if !ok || len(problems) == 0 {
				t.Fatalf("no problems, but %v", err)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				fit.Text(t, line, 1000, canary)
			}
			return
		}
		p := cfg.Chains[0].Providers[0]
		got := []string{cfg.API.Key.Reveal(), p.URL.Reveal(), p.Headers["X"].Reveal()}
		want := []string{strings.TrimSpace(file), strings.TrimSpace(address), header + canary}
		for i := range got {
			// YAML's own text may say other than a Go string; the file's and the variable's may not.
			if got[i] == "" || i < 2 && got[i] != want[i] || strings.ContainsFunc(got[i], func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q is taken for %q", got[i], want[i])
			}
		}
		fit.Text(t, strings.Join(strings.Fields(fmt.Sprintf("%+v %v", cfg, p)), " "), 1<<20, canary)
	})
}
