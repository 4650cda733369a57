package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/robfig/cron/v3"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/secret"
)

var same = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b secret.String) bool { return a.Reveal() == b.Reveal() }),
	cmp.Comparer(func(a, b ethrpc.Policy) bool { return a.String() == b.String() }),
	cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() }),
	cmp.Comparer(func(a, b cron.Schedule) bool {
		t := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)
		return a.Next(t).Equal(b.Next(t))
	}),
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleIsTheDefault(t *testing.T) {
	t.Setenv("PHALA_CLOUD_API_KEY", "")
	example, err := config.Load("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(config.Default(), example, same); d != "" {
		t.Errorf("the built-in default (-) and config.example.yaml (+) differ:\n%s", d)
	}
	builtin, err := config.Load("")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(config.Default(), builtin, same); d != "" {
		t.Errorf("Default (-) and loading no file (+) differ:\n%s", d)
	}
}

func TestDefaultTakesTheKeyFromTheEnvironment(t *testing.T) {
	t.Setenv("PHALA_CLOUD_API_KEY", "phak_1\n")
	for _, path := range []string{"", "../../config.example.yaml"} {
		cfg, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.API.Key.Reveal(); got != "phak_1" {
			t.Errorf("loading %q gives key %q", path, got)
		}
	}
}

func TestEveryKey(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"state", "evidence"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"rpc-url": "https://file.example/k\n", "key": " phak_2 \n", "web.yaml": "{}"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Parse(data, config.Env{Dir: dir, Lookup: func(name string) (string, bool) {
		return map[string]string{"RPC_URL": "https://env.example/k"}[name], name == "RPC_URL"
	}})
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Schedule: "30 4 * * 1-5", Cron: &cron.SpecSchedule{Second: 1, Minute: 1 << 30, Hour: 1 << 4, Dom: 1<<63 | 0xfffffffe, Month: 1<<63 | 0x1ffe, Dow: 0x3e, Location: berlin},
		Timezone: berlin, Timeout: 90 * time.Second, ConfirmDelay: 0, PendingMax: 90 * time.Minute,
		State: filepath.Join(dir, "state", "audit.db"), EvidenceDir: filepath.Join(dir, "evidence"), EvidenceKeep: 100_000,
		API: config.API{BaseURL: "http://127.0.0.1:8080/api/v1", Version: "2026-01-21", Timeout: 5 * time.Second, Key: secret.New("phak_2")},
		Chains: []config.Chain{{
			Name: "base", ChainID: 8453, Block: []ethrpc.Policy{policy(t, "latest-12")}, Agreement: 3, BatchSize: 1000, Verify: ethrpc.VerifyOff,
			Providers: []ethrpc.Provider{
				{Name: "a", URL: secret.New("https://plain.example"), Timeout: 20 * time.Second, Headers: map[string]secret.String{"Authorization": secret.New("Bearer x"), "X-Team": secret.New("7")}},
				{Name: "B.2_x", URL: secret.New("https://env.example/k"), Timeout: time.Second, RequestsPerSecond: 2.5},
				{Name: "c", URL: secret.New("https://file.example/k"), Timeout: 20 * time.Second},
			},
			Contracts: []config.Contract{
				{Address: common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"), FromBlock: 51375546},
				{Address: common.HexToAddress("0xd343a3f5593b93D8056aB5D60c433622d7D65a80"), Explained: []config.Explained{
					{Reason: "left by version 1"},
					{Slot: common.HexToHash("0x" + strings.Repeat("ab", 32)), Reason: strings.Repeat("r", 200)},
				}},
			},
		}, {
			Name: "test_net-1", ChainID: 31337, Agreement: 1, BatchSize: 100, Verify: ethrpc.VerifyRequired,
			Block:     []ethrpc.Policy{policy(t, "51375546"), policy(t, "0x"+strings.Repeat("ab", 32)), policy(t, "latest")},
			Providers: []ethrpc.Provider{{Name: "a", URL: secret.New("http://localhost:8545"), Timeout: 20 * time.Second}},
		}},
		Web: config.Web{Listen: []string{"127.0.0.1:0", "[::1]:10726"}, ConfigFile: filepath.Join(dir, "web.yaml")},
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Errorf("wanted (-) and read (+) differ:\n%s", d)
	}
}

func policy(t *testing.T, s string) ethrpc.Policy {
	t.Helper()
	p, err := ethrpc.ParsePolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLeftOutKeysKeepTheirDefault(t *testing.T) {
	t.Setenv("PHALA_CLOUD_API_KEY", "")
	got, err := config.Load(write(t, "c.yaml", "api: {timeout: 7s}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.API.Timeout = 7 * time.Second
	if d := cmp.Diff(want, got, same); d != "" {
		t.Errorf("wanted (-) and read (+) differ:\n%s", d)
	}
}

func TestStateMayBeThereAlready(t *testing.T) {
	path := write(t, "audit.db", "whatever it holds")
	cfg, err := config.Parse([]byte("state: "+path), config.Env{Dir: "elsewhere"})
	if err != nil || cfg.State != path {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestLoadOfNoFileNamesIt(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if err == nil || !strings.Contains(err.Error(), "none.yaml") || !strings.HasSuffix(err.Error(), "no such file or directory") {
		t.Errorf("got %v", err)
	}
}

func TestFileOverTheCapIsRefused(t *testing.T) {
	_, err := config.Load(write(t, "big.yaml", "schedule: '@hourly' #"+strings.Repeat("x", 1<<20)))
	if err == nil || err.Error() != "the file is larger than 1 MiB" {
		t.Errorf("got %v", err)
	}
}
