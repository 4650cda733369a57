//go:build e2e && beacon

package e2e_test

import (
	"encoding/json"
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
	"github.com/ethereum/go-ethereum/params"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// forks has the epochs of the forks after deneb. A devnet starts on deneb.
type forks struct{ electra, fulu uint64 }

// config is a network with slots of 2 s, epochs of 8 slots and periods of 8 epochs. Other values are those of mainnet.
func (f forks) config() string {
	text := `CONFIG_NAME: devnet
PRESET_BASE: mainnet
TERMINAL_TOTAL_DIFFICULTY: 0
GENESIS_FORK_VERSION: 0x20000089
SECONDS_PER_SLOT: 2
SLOT_DURATION_MS: 2000
SLOTS_PER_EPOCH: 8
EPOCHS_PER_SYNC_COMMITTEE_PERIOD: 8
`
	for i, name := range []string{"ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU"} {
		text += fmt.Sprintf("%s_FORK_EPOCH: %d\n%[1]s_FORK_VERSION: 0x2000009%[3]d\n", name, []uint64{0, 0, 0, 0, f.electra, f.fulu}[i], i)
	}
	return text
}

// executionGenesis is geth's block 0. prysmctl adds time and forks.
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
// "owner" and "stranger" of testchain are funded. Each transaction waits for the next slot.
type devnet struct {
	*node                     // geth
	beacon  string            // URL of the beacon API
	spec    map[string]any    // of /eth/v1/config/spec: decimal numbers and hex, as strings
	genesis map[string]string // of /eth/v1/beacon/genesis: genesis_time, genesis_validators_root, genesis_fork_version
}

// startDevnet returns once the beacon node has proposed a block, minutes before the first finality.
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
	run("prysmctl", "testnet", "generate-genesis", "--fork", "deneb", "--num-validators", "64", "--genesis-time-delay", "10",
		"--chain-config-file", in("config.yaml"), "--geth-genesis-json-in", in("in.json"), "--geth-genesis-json-out", in("out.json"), "--output-ssz", in("genesis.ssz"))
	run("geth", "init", "--datadir", in("geth"), "--state.scheme", "hash", in("out.json"))

	// A committee that misses its slot does not sign. So the network gets a higher priority, if nice is permitted.
	var public string
	endpoint := regexp.MustCompile(`HTTP server started +endpoint=(\S+) auth=false`)
	_, engine := start(t, `HTTP server started +endpoint=(\S+) auth=true`, "nice", []string{
		"-n", "-10", tool(t, "geth"), "--config", in("geth.toml"), "--datadir", in("geth"), "--networkid", "1337", "--syncmode", "full",
		"--gcmode", "archive", "--state.scheme", "hash", "--nodiscover", "--maxpeers", "0", "--nat", "none", "--ipcdisable", "--http", "--http.addr", "127.0.0.1", "--http.port", "0",
		"--authrpc.addr", "127.0.0.1", "--authrpc.port", "0", "--authrpc.jwtsecret", in("jwt"),
	}, nil, func(line string) {
		log(line)
		if m := endpoint.FindStringSubmatch(line); m != nil {
			public = m[1]
		}
	})
	rest, grpc := freePort(t), freePort(t)
	d := &devnet{node: joinNode(t, "geth", public), beacon: "http://127.0.0.1:" + rest}
	start(t, `Starting HTTP server`, "nice", []string{
		"-n", "-10", tool(t, "beacon-chain"), "--accept-terms-of-use", "--datadir", in("beacon"), "--chain-config-file", in("config.yaml"),
		"--genesis-state", in("genesis.ssz"), "--execution-endpoint", "http://" + engine, "--jwt-secret", in("jwt"), "--interop-eth1data-votes", "--contract-deployment-block", "0",
		"--chain-id", "1337", "--network-id", "1337", "--suggested-fee-recipient", testchain.Address("fees").Hex(),
		"--http-host", "127.0.0.1", "--http-port", rest, "--rpc-host", "127.0.0.1", "--rpc-port", grpc, "--disable-monitoring",
		"--p2p-local-ip", "127.0.0.1", "--p2p-host-ip", "127.0.0.1", "--p2p-tcp-port", "0", "--p2p-quic-port", "0", "--p2p-udp-port", "0",
		"--no-discovery", "--bootstrap-node=", "--min-sync-peers", "0", "--minimum-peers-per-subnet", "0", "--enable-light-client",
	}, nil, log)
	start(t, `Starting validator node`, "nice", []string{
		"-n", "-10", tool(t, "validator"), "--accept-terms-of-use", "--datadir", in("validator"), "--chain-config-file", in("config.yaml"), "--disable-monitoring",
		"--beacon-rpc-provider", "127.0.0.1:" + grpc, "--beacon-rest-api-provider", d.beacon, "--interop-num-validators", "64", "--interop-start-index", "0",
	}, nil, log)

	d.await(t, "a block", func() error {
		n, err := d.client.BlockNumber(t.Context())
		if err == nil && n == 0 {
			err = fmt.Errorf("geth has block 0 alone")
		}
		return err
	})
	for path, data := range map[string]any{"/eth/v1/config/spec": &d.spec, "/eth/v1/beacon/genesis": &d.genesis} {
		must(t, d.get(t, path, &struct{ Data any }{data}))
	}
	return d
}

// devnetLog returns a function that writes lines to a file. The end of the file is shown if the test fails.
func devnetLog(t testing.TB, path string) func(line string) {
	file, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() {
		file.Close()
		if text, err := os.ReadFile(path); t.Failed() && err == nil {
			t.Logf("the devnet's last words:\n%s", text[max(0, len(text)-20_000):])
		}
	})
	return func(line string) {
		if !strings.Contains(line, "Submitted new") { // by each of the validators, in each slot
			fmt.Fprintln(file, line)
		}
	}
}

// freePort reserves a TCP port of 127.0.0.1 until the end of the test, for a program that does not report its port. A socket that is
// bound but does not listen keeps the port from being picked at random, but not from an explicit listener.
func freePort(t testing.TB) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	must(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(fd)
	must(t, err)
	return strconv.Itoa(at.(*syscall.SockaddrInet4).Port)
}

// await polls until there is no error, for long enough on a busy machine.
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

// checkpoint returns the root of the newest finalized checkpoint for which the node serves a bootstrap. It waits for the first.
func (d *devnet) checkpoint(t testing.TB) common.Hash {
	t.Helper()
	var at struct {
		Data map[string]struct{ Root common.Hash }
	}
	d.await(t, "a bootstrap", func() error {
		if err := d.get(t, "/eth/v1/beacon/states/head/finality_checkpoints", &at); err != nil {
			return err
		}
		return d.get(t, "/eth/v1/beacon/light_client/bootstrap/"+at.Data["finalized"].Root.Hex(), new(any))
	})
	return at.Data["finalized"].Root
}

// get calls the beacon API and decodes its answer.
func (d *devnet) get(t testing.TB, path string, answer any) error {
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
