package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/robfig/cron/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

var same = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b sanitize.Secret) bool { return a.Reveal() == b.Reveal() }),
	cmp.Comparer(func(a, b ethrpc.BlockTag) bool { return a.String() == b.String() }),
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

// network is a beacon chain as its own configuration spells it: versions are hex without quotes.
const network = `CONFIG_NAME: devnet
DENEB_FORK_EPOCH: 0
DENEB_FORK_VERSION: 0x20000093
ELECTRA_FORK_EPOCH: 4
ELECTRA_FORK_VERSION: 0x20000094
FULU_FORK_EPOCH: 18446744073709551615
SECONDS_PER_SLOT: 2
SLOTS_PER_EPOCH: 8
EPOCHS_PER_SYNC_COMMITTEE_PERIOD: 8
SYNC_COMMITTEE_SIZE: 512
DEPOSIT_CHAIN_ID: 1337
genesis_time: "1796000000"
genesis_validators_root: 0xABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB
`

// fullEnv is the world of testdata/full.yaml.
func fullEnv(t *testing.T) config.Env {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"state", "evidence"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"rpc-url": "https://file.example/k\n", "key": " phak_2 \n", "web.yaml": "{}", "network.yaml": network} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config.Env{Dir: dir, Lookup: func(name string) (string, bool) {
		return map[string]string{"RPC_URL": "https://env.example/k"}[name], name == "RPC_URL"
	}, Now: badEnv.Now}
}

func TestEveryKey(t *testing.T) {
	env := fullEnv(t)
	dir := env.Dir
	got, err := config.Parse([]byte(readFile(t, "testdata/full.yaml")), env)
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	kms := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	id := common.HexToHash("0x" + strings.Repeat("ab", 32))
	want := &config.Config{
		Schedule: "30 4 * * 1-5", Cron: &cron.SpecSchedule{Second: 1, Minute: 1 << 30, Hour: 1 << 4, Dom: 1<<63 | 0xfffffffe, Month: 1<<63 | 0x1ffe, Dow: 0x3e, Location: berlin},
		Timezone: "Europe/Berlin", Timeout: 90 * time.Second, ConfirmDelay: 0, PendingMax: 90 * time.Minute,
		State: filepath.Join(dir, "state", "audit.db"), Evidence: config.Evidence{Dir: filepath.Join(dir, "evidence"), KeepChanges: 100_000, KeepLast: 1},
		API: config.API{BaseURL: "http://127.0.0.1:8080/api/v1", Version: "2026-01-21", Timeout: 5 * time.Second, Key: sanitize.NewSecret("phak_2")},
		Chains: []config.Chain{{
			Name: "base", ChainID: 8453, Block: []ethrpc.BlockTag{policy(t, "latest-12")}, Agreement: 3, BatchSize: 1000, Verify: ethrpc.VerifyOff, Explorer: "https://explorer.example/base", Claims: config.FromAPI,
			Providers: []ethrpc.Provider{
				{Name: "a", URL: sanitize.NewSecret("https://plain.example"), Timeout: 20 * time.Second, Headers: map[string]sanitize.Secret{"Authorization": sanitize.NewSecret("Bearer x"), "X-Team": sanitize.NewSecret("7")}},
				{Name: "B.2_x", URL: sanitize.NewSecret("https://env.example/k"), Timeout: time.Second, RequestsPerSecond: 2.5},
				{Name: "c", URL: sanitize.NewSecret("https://file.example/k"), Timeout: 20 * time.Second},
			},
			Contracts: []config.Contract{
				{Address: kms, FromBlock: 51375546, Policy: audit.Policy{Devices: []common.Hash{}}},
				{Address: common.HexToAddress("0xd343a3f5593b93D8056aB5D60c433622d7D65a80"), Explained: []audit.ExplainedSlot{
					{Reason: "left by version 1"},
					{Slot: id, Reason: strings.Repeat("r", 200)},
				}, Policy: audit.Policy{OSImages: []common.Hash{id, {}}, Owner: &common.Address{}, Implementation: &kms, CodeHash: &id, CodeHashes: []common.Hash{id, {}},
					AggregatedMRs: []common.Hash{id}, KMSPubkeys: []string{"02ab", "30cd"}, GatewayAppID: "0xAb", AppImplementation: &kms}},
			},
		}, {
			Name: "test_net-1", ChainID: 31337, Agreement: 1, BatchSize: 100, Verify: ethrpc.VerifyRequired, Claims: config.NoClaims, Contracts: []config.Contract{{Address: kms}},
			Block:     []ethrpc.BlockTag{policy(t, "51375546"), policy(t, "0x"+strings.Repeat("ab", 32)), policy(t, "latest")},
			Providers: []ethrpc.Provider{{Name: "a", URL: sanitize.NewSecret("http://localhost:8545"), Timeout: 20 * time.Second}},
			Anchor: &config.Anchor{
				Beacon: []anchor.Endpoint{
					{Name: "b", URL: sanitize.NewSecret("https://env.example/k"), Timeout: 20 * time.Second},
					{Name: "c", URL: sanitize.NewSecret("http://localhost:5052"), Timeout: time.Second},
				},
				Checkpoint: id, Required: config.Required(audit.TrustConsensus), File: "network.yaml",
				Network: consensus.Network{
					Name: "devnet", GenesisTime: 1796000000, GenesisValidatorsRoot: id, SecondsPerSlot: 2, SlotsPerEpoch: 8, EpochsPerSyncCommitteePeriod: 8,
					SyncCommitteeSize: 512, Forks: []consensus.Fork{{Name: "deneb", Version: consensus.Version{0x20, 0, 0, 0x93}}, {Name: "electra", Epoch: 4, Version: consensus.Version{0x20, 0, 0, 0x94}}},
				},
			},
		}},
		CrossChecks: true,
		Accept: []config.Exception{
			{Chain: "base", Exception: audit.Exception{Contract: kms, Kind: audit.OwnerChanged, Reason: "announced", Expires: time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)}},
			{Chain: "test_net-1", Exception: audit.Exception{Index: 1, Contract: kms, Kind: audit.ClaimUnknownKind, List: audit.OSImage, ID: id.Hex(), Reason: "a", Expires: time.Date(2027, 11, 24, 11, 0, 0, 0, time.UTC)}},
			{Chain: "base", Exception: audit.Exception{Index: 2, Contract: kms, Kind: audit.MalformedID, List: audit.Device, ID: `"0x12\n"…`, Reason: "b", Expires: time.Date(2020, 2, 29, 23, 59, 59, 0, time.UTC)}},
			{Chain: "base", Exception: audit.Exception{Index: 3, Contract: kms, Kind: audit.NoHash, List: audit.OSImage, Reason: "c", Expires: time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)}},
		},
		Web:       config.Web{Listen: []string{"127.0.0.1:0", "[::1]:10726"}, ConfigFile: filepath.Join(dir, "web.yaml"), Reload: true, ExternalURL: "https://audit.example/kms"},
		Heartbeat: config.Heartbeat{URL: sanitize.NewSecret("https://env.example/k"), On: "consistent"},
		Files:     []string{filepath.Join(dir, "key"), filepath.Join(dir, "rpc-url"), filepath.Join(dir, "network.yaml")},
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Errorf("wanted (-) and read (+) differ:\n%s", d)
	}
}

// TestPolicyTellsNothingFromNotSaid: what the file leaves out is not checked, and an empty list wants nothing.
func TestPolicyTellsNothingFromNotSaid(t *testing.T) {
	for _, row := range []struct {
		name, policy string
		want         audit.Policy
	}{
		{"no policy checks nothing", "", audit.Policy{}},
		{"an empty policy checks nothing", "policy: {}", audit.Policy{}},
		{"an empty list wants nothing allowed, and the other list is not checked", "policy: {devices: []}", audit.Policy{Devices: []common.Hash{}}},
		{"both lists may be empty", "policy: {devices: [], os_images: []}", audit.Policy{Devices: []common.Hash{}, OSImages: []common.Hash{}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg, err := config.Parse(fmt.Appendf(nil, `chains: [{name: a, chain_id: 1, providers: [{name: a, url: http://rpc.example}], contracts: [{address: "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", %s}]}]`, row.policy), config.Env{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(row.want, cfg.Chains[0].Contracts[0].Policy); d != "" {
				t.Errorf("wanted (-) and read (+) differ:\n%s", d)
			}
		})
	}
}

func TestChainsAreDiscoveredWhereNoneIsNamed(t *testing.T) {
	want := config.Default()
	want.CrossChecks = true
	for _, row := range []struct {
		name, file string
		discover   bool
	}{
		{"no chains named: those of the default that the API's list of KMS names", "chains: []\ncross_checks: true", true},
		{"chains left out: those of the default", "cross_checks: true", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := config.Parse([]byte(row.file), config.Env{})
			if err != nil {
				t.Fatal(err)
			}
			want.Discover = row.discover
			if d := cmp.Diff(want, got, same); d != "" {
				t.Errorf("wanted (-) and read (+) differ:\n%s", d)
			}
		})
	}
}

func policy(t *testing.T, s string) ethrpc.BlockTag {
	t.Helper()
	p, err := ethrpc.ParseBlockTag(s)
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
	file := write(t, "big.yaml", "schedule: '@hourly' #"+strings.Repeat("x", 1<<20))
	_, err := config.Load(file)
	if err == nil || err.Error() != fmt.Sprintf("configuration %q: the file is larger than 1 MiB", file) {
		t.Errorf("got %v", err)
	}
}

// TestAnL1ThatIsNotAudited serves the chain that names it, and is no chain of its own.
func TestAnL1ThatIsNotAudited(t *testing.T) {
	cfg, err := config.Parse([]byte(`
chains:
  - name: base
    chain_id: 8453
    anchor: {l1: ethereum, system_config: "0x73a79Fab69143498Ed3712e519A88a918e1f4072", required: anchored}
    providers: [{name: a, url: https://rpc.example}]
  - name: ethereum
    chain_id: 1
    claims: none
    anchor: {beacon: [{name: b, url: https://beacon.example}], checkpoint: "0xabababababababababababababababababababababababababababababababab"}
    providers: [{name: a, url: https://rpc.example}]
`), badEnv)
	if err != nil {
		t.Fatal(err)
	}
	a := cfg.Chains[0].Anchor
	if len(cfg.Chains) != 1 || a.L1 == nil || a.L1.ChainID != 1 || a.L1.Anchor.Network.Name != "mainnet" || a.Required != config.Required(audit.TrustL1Anchored) {
		t.Errorf("%+v", cfg.Chains)
	}
}
