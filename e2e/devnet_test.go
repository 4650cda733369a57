//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/params"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// forks are the epochs of the forks after deneb, which a devnet starts with. math.MaxUint64 is never.
type forks struct{ electra, fulu uint64 }

// config is a network of slots of 2 s, epochs of 8 slots and periods of 8 epochs. What it leaves out is as on mainnet.
func (f forks) config() string {
	return fmt.Sprintf(`CONFIG_NAME: devnet
PRESET_BASE: mainnet
GENESIS_FORK_VERSION: 0x20000089
ALTAIR_FORK_EPOCH: 0
ALTAIR_FORK_VERSION: 0x20000090
BELLATRIX_FORK_EPOCH: 0
BELLATRIX_FORK_VERSION: 0x20000091
TERMINAL_TOTAL_DIFFICULTY: 0
CAPELLA_FORK_EPOCH: 0
CAPELLA_FORK_VERSION: 0x20000092
DENEB_FORK_EPOCH: 0
DENEB_FORK_VERSION: 0x20000093
ELECTRA_FORK_EPOCH: %d
ELECTRA_FORK_VERSION: 0x20000094
FULU_FORK_EPOCH: %d
FULU_FORK_VERSION: 0x20000095
SECONDS_PER_SLOT: 2
SLOT_DURATION_MS: 2000
SLOTS_PER_EPOCH: 8
EPOCHS_PER_SYNC_COMMITTEE_PERIOD: 8
MIN_GENESIS_ACTIVE_VALIDATOR_COUNT: 64
DEPOSIT_CHAIN_ID: 1337
DEPOSIT_NETWORK_ID: 1337
DEPOSIT_CONTRACT_ADDRESS: 0x4242424242424242424242424242424242424242
`, f.electra, f.fulu)
}

// genesisFork is the fork of slot 0.
func (f forks) genesisFork() string {
	switch uint64(0) {
	case f.fulu:
		return "fulu"
	case f.electra:
		return "electra"
	}
	return "deneb"
}

// executionGenesis is geth's block 0, to which prysmctl adds time and forks.
func executionGenesis() *core.Genesis {
	rules := *params.AllDevChainProtocolChanges
	rules.ShanghaiTime, rules.CancunTime, rules.PragueTime, rules.OsakaTime, rules.BogotaTime = nil, nil, nil, nil, nil
	return &core.Genesis{
		Config: &rules, GasLimit: 30e6, Difficulty: new(big.Int), BaseFee: big.NewInt(params.InitialBaseFee),
		Alloc: types.GenesisAlloc{
			testchain.Address("owner"):       {Balance: new(big.Int).Lsh(big.NewInt(1), 100)},
			testchain.Address("stranger"):    {Balance: new(big.Int).Lsh(big.NewInt(1), 100)},
			params.BeaconRootsAddress:        {Nonce: 1, Balance: new(big.Int), Code: params.BeaconRootsCode},
			params.HistoryStorageAddress:     {Nonce: 1, Balance: new(big.Int), Code: params.HistoryStorageCode},
			params.WithdrawalQueueAddress:    {Nonce: 1, Balance: new(big.Int), Code: params.WithdrawalQueueCode},
			params.ConsolidationQueueAddress: {Nonce: 1, Balance: new(big.Int), Code: params.ConsolidationQueueCode},
		},
	}
}

// devnet is an Ethereum network of geth, one beacon node and one validator client, with 64 validators. The accounts
// "owner" and "stranger" of testchain are funded.
type devnet struct {
	beacon  string // URL of the beacon API
	rpc     string // URL of geth
	client  *ethclient.Client
	spec    map[string]any // /eth/v1/config/spec
	genesis struct {
		Time           string `json:"genesis_time"` // Unix seconds
		ValidatorsRoot string `json:"genesis_validators_root"`
		ForkVersion    string `json:"genesis_fork_version"`
	}
}

// startDevnet returns when the beacon node has proposed on geth's chain: minutes before the first finality.
func startDevnet(t testing.TB, f forks) *devnet {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	log := devnetLog(t, in("devnet.log"))
	genesis, err := json.Marshal(executionGenesis())
	must(t, err)
	for name, text := range map[string]string{
		"config.yaml": f.config(), "in.json": string(genesis), "jwt": strings.Repeat("5a", 32),
		"geth.toml": "[Node.P2P]\nListenAddr = \"\"\n", // or it listens on every address
	} {
		must(t, os.WriteFile(in(name), []byte(text), 0o600))
	}
	run := func(name string, args ...string) {
		if out, err := exec.CommandContext(t.Context(), tool(t, name), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args[0], err, out)
		}
	}
	run("prysmctl", "testnet", "generate-genesis", "--fork", f.genesisFork(), "--num-validators", "64", "--genesis-time-delay", "10",
		"--chain-config-file", in("config.yaml"), "--geth-genesis-json-in", in("in.json"), "--geth-genesis-json-out", in("out.json"), "--output-ssz", in("genesis.ssz"))
	run("geth", "init", "--datadir", in("geth"), "--state.scheme", "hash", in("out.json"))

	var d devnet
	endpoint := regexp.MustCompile(`HTTP server started +endpoint=(\S+) auth=false`)
	toLog := log("geth")
	_, engine := start(t, `HTTP server started +endpoint=(\S+) auth=true`, tool(t, "geth"), []string{
		"--config", in("geth.toml"), "--datadir", in("geth"), "--networkid", "1337", "--syncmode", "full", "--gcmode", "archive", "--state.scheme", "hash",
		"--nodiscover", "--maxpeers", "0", "--nat", "none", "--ipcdisable", "--http", "--http.addr", "127.0.0.1", "--http.port", "0",
		"--authrpc.addr", "127.0.0.1", "--authrpc.port", "0", "--authrpc.jwtsecret", in("jwt"),
	}, nil, func(line string) {
		toLog(line)
		if m := endpoint.FindStringSubmatch(line); m != nil {
			d.rpc = "http://" + m[1]
		}
	})
	http, grpc := freePort(t), freePort(t)
	d.beacon = "http://127.0.0.1:" + http
	start(t, `Starting HTTP server`, tool(t, "beacon-chain"), []string{
		"--accept-terms-of-use", "--datadir", in("beacon"), "--chain-config-file", in("config.yaml"), "--genesis-state", in("genesis.ssz"),
		"--execution-endpoint", "http://" + engine, "--jwt-secret", in("jwt"), "--interop-eth1data-votes", "--contract-deployment-block", "0",
		"--chain-id", "1337", "--network-id", "1337", "--suggested-fee-recipient", testchain.Address("fees").Hex(),
		"--http-host", "127.0.0.1", "--http-port", http, "--rpc-host", "127.0.0.1", "--rpc-port", grpc, "--disable-monitoring",
		"--p2p-local-ip", "127.0.0.1", "--p2p-host-ip", "127.0.0.1", "--p2p-tcp-port", "0", "--p2p-quic-port", "0", "--p2p-udp-port", "0",
		"--no-discovery", "--bootstrap-node=", "--min-sync-peers", "0", "--minimum-peers-per-subnet", "0", "--enable-light-client",
	}, nil, log("beacon-chain"))
	start(t, `Starting validator node`, tool(t, "validator"), []string{
		"--accept-terms-of-use", "--datadir", in("validator"), "--chain-config-file", in("config.yaml"), "--disable-monitoring",
		"--beacon-rpc-provider", "127.0.0.1:" + grpc, "--beacon-rest-api-provider", d.beacon, "--interop-num-validators", "64", "--interop-start-index", "0",
	}, nil, log("validator"))

	d.client, err = ethclient.DialContext(t.Context(), d.rpc)
	must(t, err)
	t.Cleanup(d.client.Close)
	d.await(t, "a block", func() error {
		n, err := d.client.BlockNumber(t.Context())
		if err == nil && n == 0 {
			err = errors.New("geth has block 0 alone")
		}
		return err
	})
	must(t, d.get(t, "/eth/v1/config/spec", &d.spec))
	must(t, d.get(t, "/eth/v1/beacon/genesis", &d.genesis))
	return &d
}

// devnetLog returns what writes a program's lines into a file, whose end is shown when the test has failed.
func devnetLog(t testing.TB, path string) func(program string) func(line string) {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() {
		file.Close()
		if text, err := os.ReadFile(path); t.Failed() && err == nil {
			t.Logf("the devnet's last words:\n%s", text[max(0, len(text)-20_000):])
		}
	})
	return func(program string) func(string) {
		return func(line string) {
			if !strings.Contains(line, "Submitted new") { // by each of the validators, in each slot
				fmt.Fprintf(file, "%s: %s\n", program, line)
			}
		}
	}
}

// freePort is a TCP port of 127.0.0.1 that is kept free until the end of the test for a program that does not say which
// port it got. A socket that is bound and does not listen keeps the port from all who ask for any, and not from a listener.
func freePort(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	must(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(fd)
	must(t, err)
	return strconv.Itoa(at.(*syscall.SockaddrInet4).Port)
}

// await asks again and again until there is no error, for a time that is enough for a busy machine.
func (d *devnet) await(t testing.TB, what string, ask func() error) {
	t.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Minute)
	for err := ask(); err != nil; err = ask() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// checkpoint is the root of the newest finalized checkpoint for which the node serves a bootstrap; it waits for the first.
func (d *devnet) checkpoint(t testing.TB) common.Hash {
	t.Helper()
	var at struct{ Finalized struct{ Root common.Hash } }
	d.await(t, "a bootstrap", func() error {
		if err := d.get(t, "/eth/v1/beacon/states/head/finality_checkpoints", &at); err != nil {
			return err
		}
		return d.get(t, "/eth/v1/beacon/light_client/bootstrap/"+at.Finalized.Root.Hex(), new(any))
	})
	return at.Finalized.Root
}

// deploy deploys a KMS by transactions. Each waits for the next slot.
func (d *devnet) deploy(t testing.TB) *testchain.KMS {
	t.Helper()
	kms, err := testchain.Deploy(t.Context(), d.client, testchain.DeployOptions{})
	must(t, err)
	return kms
}

// get asks the beacon API and decodes the data of its answer.
func (d *devnet) get(t testing.TB, path string, data any) error {
	t.Helper()
	return d.getAll(t, path, &struct{ Data any }{data})
}

// getAll decodes the whole answer.
func (d *devnet) getAll(t testing.TB, path string, answer any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.beacon+path, nil)
	must(t, err)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, answer)
	}
	return wrap("asking for "+path, err)
}
